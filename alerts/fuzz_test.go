package alerts

import (
	"testing"

	"github.com/prometheus/alertmanager/config"

	"github.com/sightline-dev/sightline/catalog"
)

// FuzzOfficeHours checks that Alertmanager takes whatever annotations the catalog takes, as office hours and as the
// address of a receiver.
func FuzzOfficeHours(f *testing.F) {
	f.Add("Mon-Fri 08:00-18:00 Europe/Zurich", "slack", "#pay")
	f.Add("mon,wed-sun 00:00-24:00", "email", "pay@example.com")
	f.Add("Sat-Tue 22:00-23:59 UTC", "webhook", "hook")
	f.Add("sun 00:00-00:01 Local", "pagerduty", "key")
	f.Fuzz(func(t *testing.T, hours, kind, address string) {
		owner := catalog.NewRef("group", "", "pay")
		g, _ := catalog.NewGraph([]*catalog.Entity{
			{Ref: owner, Name: "pay", Annotations: map[string]string{
				catalog.Prefix + "office-hours":     hours,
				catalog.Prefix + "receiver." + kind: address,
			}},
			{Ref: catalog.NewRef("component", "", "checkout"), Name: "checkout", Owner: owner},
		}, owner)
		c, _ := Build(g, Options{Email: Email{Smarthost: "mail:587", From: "slo@example.com"}})
		if _, err := config.Load(string(c.YAML())); err != nil {
			t.Errorf("Alertmanager refuses office hours %q with %s %q: %v\n%s", hours, kind, address, err, c.YAML())
		}
	})
}
