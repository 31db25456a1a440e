package gitlab

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/upstream"
)

// TestTheHistoryOfDeploymentsIsWholeThoughItsFirstReadingIsCutOff lets a later page of the first reading fail, with cycles
// after it that succeed and settle the source, as Follow does.
func TestTheHistoryOfDeploymentsIsWholeThoughItsFirstReadingIsCutOff(t *testing.T) {
	for name, failure := range map[string]error{"GitLab fails": &upstream.StatusError{Code: 502}, "GitLab refuses": &upstream.StatusError{Code: 403}, "the connection breaks": errors.New("connection reset")} {
		for _, page := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s on page %d", name, page), func(t *testing.T) {
				w := newWorld(t)
				for i := range 250 {
					w.deploy("production", fmt.Sprint("r", i))
					w.pass(10 * time.Minute)
				}
				cycle := func() (failed bool) {
					w.pass(30 * time.Second)
					if err := w.source.Sync(t.Context(), w.graph, w.journal); err != nil {
						return true
					}
					if err := w.journal.Settle(t.Context(), w.source.Name(), w.source.Host()); err != nil {
						t.Fatal(err)
					}
					return false
				}
				cycle()
				w.deploy("production", "news")
				asked, broken := 0, true
				w.api.breaks = func(path string) error {
					if !strings.Contains(path, "/deployments?") || !strings.Contains(path, "updated_after=") {
						return nil
					}
					if asked++; broken && asked >= page {
						return failure
					}
					return nil
				}
				for range 45 { // it is asked for within twenty minutes
					cycle()
				}
				if asked < page {
					t.Fatalf("%d pages were asked for, so nothing has failed", asked)
				}
				w.open()
				broken = false
				for range 200 {
					cycle()
				}
				w.wantDORA(nothing(map[string]string{"deployments production success": "251: 251"}))
			})
		}
	}
}
