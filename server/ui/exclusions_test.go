package ui

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/server/api"
	"github.com/sightline-dev/sightline/server/changes"
	"github.com/sightline-dev/sightline/slo"
)

// noted is a platform with an objective that has exclusions and was changed.
func noted(t *testing.T) fakeState {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Zurich")
	if err != nil {
		t.Fatal(err)
	}
	s := platform(0.4)
	o := &s.objectives[0]
	o.SLO = &slo.Objective{Exclusions: []slo.Exclusion{
		{Kind: slo.ExclusionMaintenance, From: now.AddDate(0, 0, -27), To: now.AddDate(0, 0, -27).Add(4 * time.Hour), Weekly: true, Zone: zone, By: "user:default/anna", Reason: "patch night"},
		{Kind: slo.ExclusionCorrection, From: now.AddDate(0, 0, -10), To: now.AddDate(0, 0, -9), By: "ben", Reason: "<script>alert(2)</script>", Link: "https://tickets.example.com/INC-7"},
		{Kind: slo.ExclusionMaintenance, From: now.Add(-time.Minute), To: now.Add(time.Hour), By: "anna", Reason: "now"},
	}}
	o.Changes = []changes.Change{
		{Time: now.AddDate(0, 0, -60), Field: "owner", From: "group:default/old", To: "group:default/payments"},
		{Time: now.AddDate(0, 0, -15), Field: "target", From: "99", To: "99.9"},
	}
	return s
}

func TestAnEntityShowsWhatDoesNotCountAndWhatWasChanged(t *testing.T) {
	h := New(reader(noted(t)), Options{})
	page := get(h, "/entities/component/default/checkout").Body.String()
	for text, want := range map[string]int{
		`class="excluded" x=`: 6, // four Sundays, the correction, now
		`class="change" x1="`: 2, // the newer one, and the key
		"<title>target changed on 2026-01-16 12:00 UTC</title>":                   1,
		"<title>Does not count: 2026-01-21 12:00 to 2026-01-22 12:00 UTC</title>": 1,
		"Weekly, Sun 13:00 to Sun 17:00 Europe/Zurich, from 2026-01-04":           1,
		`<a href="https://tickets.example.com/INC-7">`:                            1,
		`<span class="status low">now</span>`:                                     1,
		"2 changes of this objective":                                             1,
		"<script":                                                                 0,
	} {
		if got := strings.Count(page, text); got != want {
			t.Errorf("%d times %q, want %d", got, text, want)
		}
	}
	if plain := get(New(reader(platform(0.4)), Options{}), "/entities/component/default/checkout").Body.String(); strings.Contains(plain, "excluded") || strings.Contains(plain, "class=\"change\"") {
		t.Error("an objective without exclusions and changes shows some")
	}
}

func TestTheAPIGivesExclusionsAndChanges(t *testing.T) {
	var list api.SLOList
	if err := json.Unmarshal(get(api.New(reader(noted(t))), "/api/v1/entities/component/default/checkout/slos?points=0").Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	got := list.Items[0]
	want := []api.Exclusion{
		{Kind: "maintenance", From: now.AddDate(0, 0, -27), To: now.AddDate(0, 0, -27).Add(4 * time.Hour), Repeat: "weekly", Zone: "Europe/Zurich", By: "user:default/anna", Reason: "patch night"},
		{Kind: "correction", From: now.AddDate(0, 0, -10), To: now.AddDate(0, 0, -9), By: "ben", Reason: "<script>alert(2)</script>", Link: "https://tickets.example.com/INC-7"},
		{Kind: "maintenance", From: now.Add(-time.Minute), To: now.Add(time.Hour), Active: true, By: "anna", Reason: "now"},
	}
	if d := cmp.Diff(want, got.Exclusions); d != "" {
		t.Errorf("exclusions (-want +got):\n%s", d)
	}
	if len(got.Excluded) != 6 || got.Excluded[5] != (api.Span{From: now.Add(-time.Minute), To: now}) {
		t.Errorf("excluded: %v", got.Excluded)
	}
	changed := []api.Change{{Time: now.AddDate(0, 0, -15), Field: "target", From: "99", To: "99.9"}, {Time: now.AddDate(0, 0, -60), Field: "owner", From: "group:default/old", To: "group:default/payments"}}
	if d := cmp.Diff(changed, got.Changes); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
}
