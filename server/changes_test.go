package server

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"

	sloapi "github.com/sightline-dev/sightline/server/api"
)

func TestAChangeOfAnObjectiveIsShownAlsoAfterARestart(t *testing.T) {
	var owner atomic.Value
	owner.Store("payments")
	o := Options{Path: t.TempDir(), Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, owner.Load().(string)) }}
	const slos, series = "/api/v1/entities/component/default/checkout/slos?points=0", "sightline_slo_last_change_timestamp_seconds{"
	shown := func(url string) (api, metrics int) {
		t.Helper()
		_, answer := get(t, url+slos)
		_, text := get(t, url+"/metrics")
		var list sloapi.SLOList
		if err := json.Unmarshal([]byte(answer), &list); err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Items {
			for _, c := range o.Changes {
				if c.Field == "owner" && c.From == "group:default/payments" && c.To == "group:default/ledger" {
					api++
				}
			}
		}
		return api, strings.Count(text, series)
	}
	reload := func(s *Server) {
		t.Helper()
		if err := s.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	url, s, stop := run(t, o)
	reload(s)
	if a, m := shown(url); a != 0 || m != 0 {
		t.Errorf("without a change there are %d in the API and %d series", a, m)
	}
	owner.Store("ledger")
	reload(s)
	reload(s)
	if a, m := shown(url); a == 0 || a != m {
		t.Errorf("after the change there are %d in the API and %d series", a, m)
	}
	before, _ := shown(url)
	stop()
	url, _, _ = run(t, o)
	if a, m := shown(url); a != before || m != before {
		t.Errorf("after a restart there are %d in the API and %d series, want %d", a, m, before)
	}
}
