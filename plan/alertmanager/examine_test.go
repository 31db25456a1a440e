package alertmanager

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/upstream"
)

const generatedRoutes = `
route:
  receiver: sightline/unrouted
  routes:
    - {receiver: "sightline/group:default/pay"}
    - {receiver: "sightline/group:default/shop"}
receivers: [{name: sightline/unrouted}, {name: "sightline/group:default/pay"}, {name: "sightline/group:default/shop"}]
`

func TestExamineFindsWhatAlertmanagerHasNotLoaded(t *testing.T) {
	const shop = `route: {receiver: default, routes: [{receiver: sightline-fallback, routes: [{receiver: "sightline/group:default/shop"}, {receiver: sightline/unrouted}]}]}
`
	tests := map[string]struct {
		status    any
		generated string
		bad       []string
	}{
		"everything is loaded": {
			status:    loadedStatus("ready", "# somebody's own\n"+generatedRoutes),
			generated: generatedRoutes,
		},
		"nothing is wanted": {
			status: loadedStatus("disabled", "route: {receiver: default}\nreceivers: [{name: default}]\n"),
		},
		"nothing of Sightline's is loaded": {
			status:    loadedStatus("ready", "route: {receiver: default}\nreceivers: [{name: default}]\n"),
			generated: generatedRoutes,
			bad:       []string{"error: none of the 3 receivers and routes for owners is loaded: their alerts go to default"},
		},
		"an owner is missing": {
			status:    loadedStatus("ready", shop+`receivers: [{name: default}, {name: sightline/unrouted}, {name: "sightline/group:default/shop"}, {name: "sightline/group:default/pay"}]`),
			generated: generatedRoutes,
			bad:       []string{"error: 1 of 3 receivers and routes for owners are not loaded: group:default/pay"},
		},
		"its replicas do not find each other": {
			status: loadedStatus("settling", "route: {receiver: default}\n"),
			bad:    []string{"warning: its cluster is settling: alerts may be sent twice, or late"},
		},
		"it is no Alertmanager": {
			status: map[string]any{"status": "ok"},
			bad:    []string{"error: the configuration that it says to have loaded has no route"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/am/api/v2/status" {
					http.NotFound(w, r)
					return
				}
				json.NewEncoder(w).Encode(tt.status)
			}))
			defer srv.Close()
			c, err := upstream.New(upstream.Options{BaseURL: srv.URL + "/am", Tries: 1})
			if err != nil {
				t.Fatal(err)
			}
			var bad []string
			for _, f := range Examine(t.Context(), c, []byte(tt.generated)) {
				if f.Level != upstream.LevelOK {
					bad = append(bad, string(f.Level)+": "+f.Message)
				}
			}
			if diff := cmp.Diff(tt.bad, bad); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func loadedStatus(cluster, original string) any {
	return map[string]any{
		"cluster":     map[string]any{"status": cluster},
		"versionInfo": map[string]any{"version": "0.34.0"},
		"config":      map[string]any{"original": original},
	}
}
