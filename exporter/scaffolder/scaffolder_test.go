package scaffolder

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/exporter/journal"
)

// recorded answers as the recorded Backstage did, with a fifth task whose two failing steps were recorded elsewhere.
type recorded struct {
	t     *testing.T
	calls []string
	fail  int // the call, counted from 1, that fails
}

func (r *recorded) GetJSON(_ context.Context, path string, into any) (http.Header, error) {
	r.calls = append(r.calls, path)
	if len(r.calls) == r.fail {
		return nil, fmt.Errorf("cut off at %s", path)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			r.t.Fatal(err)
		}
		return b
	}
	const double = "bfba878b-0239-4d0c-a253-b254f8c10731"
	files := map[string]string{
		"d3aa30a8-43ee-422c-8e33-a78c492bc2b3": "task-cancelled-events.json", "24dbe545-33ae-4a37-82d9-fb01b88474de": "task-failed-events.json",
		"b24cb375-aa2d-46ab-966b-2f30e6dfb546": "task-ok-events.json", double: "task-doublefail-events.json",
	}
	if strings.HasPrefix(path, "/api/scaffolder/v2/tasks?") {
		if !strings.Contains(path, "offset=0") {
			return nil, json.Unmarshal([]byte(`{"tasks":[],"totalTasks":4}`), into)
		}
		var list struct {
			Tasks      []map[string]any `json:"tasks"`
			TotalTasks int              `json:"totalTasks"`
		}
		if err := json.Unmarshal(read("tasks-list.json"), &list); err != nil {
			r.t.Fatal(err)
		}
		// The fourth listed task has no recorded events; the one with two failing steps takes its place.
		last := maps.Clone(list.Tasks[1])
		last["id"] = double
		list.Tasks[3] = last
		b, err := json.Marshal(list)
		if err != nil {
			r.t.Fatal(err)
		}
		return nil, json.Unmarshal(b, into)
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(path, "/api/scaffolder/v2/tasks/"), "/")
	return nil, json.Unmarshal(read(files[id]), into)
}

func results(j *journal.Journal) map[string]int {
	out := map[string]int{}
	for _, r := range j.Runs(journal.Filter{Limit: 100}) {
		out[string(r.Result)]++
	}
	return out
}

func open(t *testing.T, path string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(path, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

var now = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

func graph() *catalog.Graph {
	g, _ := catalog.NewGraph(nil, catalog.NewRef("group", "", "platform"))
	return g
}

func source(t *testing.T, api API) exporter.Source {
	t.Helper()
	s, err := New(api, "http://backstage.test:7007", func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var want = map[string]int{"success": 1, "failure": 2, "cancellation": 1}

func TestRecordedTasksAreOneSuccessTwoFailuresAndOneCancellation(t *testing.T) {
	j := open(t, filepath.Join(t.TempDir(), "journal.db"))
	defer j.Close()
	api := &recorded{t: t}
	s := source(t, api)
	if err := s.Sync(t.Context(), graph(), j); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, results(j)); d != "" {
		t.Errorf("results (-want +got):\n%s", d)
	}
	before := len(api.calls)
	if err := s.Sync(t.Context(), graph(), j); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, results(j)); d != "" {
		t.Errorf("results after an idle cycle (-want +got):\n%s", d)
	}
	if idle := api.calls[before:]; len(idle) > 2 {
		t.Errorf("an idle cycle made %d calls: %v", len(idle), idle)
	}
}

func TestAReadingThatIsCutOffAnywhereCountsEachTaskOnce(t *testing.T) {
	for fail := 1; fail <= 6; fail++ {
		path := filepath.Join(t.TempDir(), "journal.db")
		j := open(t, path)
		if err := source(t, &recorded{t: t, fail: fail}).Sync(t.Context(), graph(), j); err == nil {
			t.Errorf("call %d failed and Sync did not say so", fail)
		}
		j.Close()
		j = open(t, path)
		if err := source(t, &recorded{t: t}).Sync(t.Context(), graph(), j); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, results(j)); d != "" {
			t.Errorf("cut off at call %d (-want +got):\n%s", fail, d)
		}
		j.Close()
	}
}

// single answers with one failed task, whose events were recorded.
type single struct{ events string }

func (s single) GetJSON(_ context.Context, path string, into any) (http.Header, error) {
	if strings.HasSuffix(path, "/events") {
		b, err := os.ReadFile(filepath.Join("testdata", s.events))
		if err != nil {
			return nil, err
		}
		return nil, json.Unmarshal(b, into)
	}
	var events []event
	if _, err := s.GetJSON(context.Background(), "/events", &events); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join("testdata", s.events))
	if err != nil {
		return nil, err
	}
	var ids []struct{ TaskID string }
	if err := json.Unmarshal(b, &ids); err != nil {
		return nil, err
	}
	return nil, json.Unmarshal(fmt.Appendf(nil, `{"tasks":[{"id":%q,"status":"failed","createdAt":%q}]}`, ids[0].TaskID, events[0].CreatedAt.Format(time.RFC3339)), into)
}

func TestRecordedAttemptsAndTheirSteps(t *testing.T) {
	for file, want := range map[string][]string{
		"task-cancelled-events.json":         {"cancellation first w1=cancellation w2=skip"},
		"task-doublefail-events.json":        {"failure first a=failure b=failure c=success"},
		"task-cancelled-waiting-events.json": {"cancellation first w1=cancellation w2=skip"}, // its cancellation names step 0, a number
		"task-failed-retried-events.json":    {"failure first hello=success never=skip rename=failure", "failure rerun hello=success never=skip rename=failure"},
		"task-cancelled-retried-events.json": {"cancellation first w1=cancellation w2=skip", "cancellation rerun w1=cancellation w2=skip"},
	} {
		t.Run(file, func(t *testing.T) {
			j := open(t, filepath.Join(t.TempDir(), "journal.db"))
			defer j.Close()
			var batches []exporter.Batch
			if err := source(t, single{file}).Sync(t.Context(), graph(), &recorder{j, &batches}); err != nil {
				t.Fatal(err)
			}
			var got []string
			keys := map[string]bool{}
			for _, b := range batches {
				for _, r := range b.Runs {
					if r.Level == exporter.LevelTask && keys[r.ID.Key] {
						t.Errorf("two steps have the id %s", r.ID.Key)
					}
					keys[r.ID.Key] = true
				}
				for _, whole := range b.Runs {
					if whole.Level != exporter.LevelPipeline {
						continue
					}
					var names []string
					for _, r := range b.Runs {
						if r.Level == exporter.LevelTask && r.Attempt == whole.Attempt {
							names = append(names, r.Name+"="+string(r.Result))
						}
					}
					slices.Sort(names)
					got = append(got, strings.Join(append([]string{string(whole.Result), string(whole.Attempt)}, names...), " "))
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("attempts (-want +got):\n%s", d)
			}
		})
	}
}
