package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/config"
	"github.com/sightline-dev/sightline/server"
)

// graphOf is a catalog of one service with an objective.
func graphOf(percent string) *catalog.Graph {
	pay := catalog.NewRef("group", "", "pay")
	g, _ := catalog.NewGraph([]*catalog.Entity{
		{Ref: pay, Name: "pay", Annotations: map[string]string{catalog.Prefix + "receiver.webhook": "pay"}},
		{
			Ref: catalog.NewRef("component", "", "shop"), Name: "shop", Type: "service", Lifecycle: "production", Owner: pay,
			Annotations: map[string]string{catalog.Prefix + "objective.availability": percent, catalog.Prefix + "selector": `job="shop"`},
		},
	}, pay)
	return g
}

func TestServeAppliesWhatTheCatalogSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "out")
		rules := filepath.Join(dir, "rules", "default", "pay", "component.default.shop.yaml")
		var log bytes.Buffer
		r := newReconciler(&config.Config{Files: config.Files{Dir: dir}}, slog.New(slog.NewTextHandler(&log, nil)))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.run(ctx); close(done) }()
		has := func(text string) {
			t.Helper()
			synctest.Wait()
			b, err := os.ReadFile(rules)
			if err != nil || !strings.Contains(string(b), text) {
				t.Errorf("the rules have no %q (%v):\n%s\n%s", text, err, b, &log)
			}
		}
		take := func(percent string) { r.take(&server.Compiled{Graph: graphOf(percent)}) }

		take("99.9")
		has("0.999")
		if strings.Contains(read(t, rules), "anchored") {
			t.Error("the rules are for the embedded Prometheus alone")
		}
		for range 3 { // only the last one counts
			take("98")
		}
		take("99.5")
		has("0.995")
		changed := testutil.ToFloat64(r.changes.WithLabelValues("files", "changed"))
		take("99.5")
		synctest.Wait()
		if now := testutil.ToFloat64(r.changes.WithLabelValues("files", "changed")); now != changed {
			t.Error("an equal catalog was applied again")
		}

		// Somebody changes a file: it is set right within ten minutes.
		if err := os.WriteFile(rules, []byte("groups: []\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		time.Sleep(driftInterval + time.Second)
		has("0.995")

		// A target that fails is tried again, although the catalog stays.
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		take("99")
		synctest.Wait()
		if testutil.ToFloat64(r.errors.WithLabelValues("files")) == 0 || !strings.Contains(log.String(), "was not applied") {
			t.Errorf("the failure is not told of:\n%s", &log)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryInterval + time.Second)
		has("0.99")
		stop()
		<-done
	})
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
