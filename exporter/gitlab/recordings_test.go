package gitlab

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sightline-dev/sightline/exporter"
)

// recordings is the folder of GitLab's recorded answers, which is not part of this repository.
func recordings(t testing.TB, parts ...string) string {
	t.Helper()
	path := filepath.Join(append([]string{"..", "..", "..", "shared", "recordings", "gitlab"}, parts...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no recordings of GitLab: %v", err)
	}
	return path
}

// rows gives the recorded objects of one table.
func rows(t testing.TB, name string) []string {
	t.Helper()
	f, err := os.Open(recordings(t, "devlake", "raw_tables", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := -1
	for i, column := range records[0] {
		if column == "data" {
			at = i
		}
	}
	var out []string
	for _, r := range records[1:] {
		data := r[at]
		if !json.Valid([]byte(data)) || strings.Contains(data, `\\u0026`) {
			data = strings.ReplaceAll(data, `\\`, `\`)
		}
		out = append(out, data)
	}
	return out
}

func TestRecordedJobsKeepWhatIsNullApartFromZero(t *testing.T) {
	byPipeline := map[int64][]job{}
	neverRan, retried := 0, 0
	for _, data := range rows(t, "_raw_gitlab_api_job.csv") {
		var j job
		if err := json.Unmarshal([]byte(data), &j); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if j.ID == 0 || j.Created.IsZero() || j.Pipeline.ID == 0 {
			t.Errorf("a job without id, creation or pipeline: %s", data)
		}
		if j.Queued != nil {
			t.Error("a queue time where GitLab gave none")
		}
		if j.Started.IsZero() {
			neverRan++
			if j.Duration != nil {
				t.Error("a duration of a job that never ran")
			}
		}
		for _, other := range byPipeline[j.Pipeline.ID] {
			if other.Name == j.Name {
				retried++
			}
		}
		byPipeline[j.Pipeline.ID] = append(byPipeline[j.Pipeline.ID], j)
	}
	if neverRan != 35 {
		t.Errorf("%d jobs never ran, want 35", neverRan)
	}
	if retried == 0 {
		t.Error("the list of all jobs of a project has no retried job: it cannot be read instead of the pipelines' own lists")
	}
	r := &reading{follower: &follower{Source: &Source{host: "gitlab.example.com"}}, graph: graphOf(t)}
	for id, jobs := range byPipeline {
		for _, run := range r.tasks(pipeline{ID: id}, jobs) {
			if run.Duration != nil && run.Started.IsZero() {
				t.Errorf("%s has a duration and never ran", run.ID)
			}
			if run.Result == "" || run.Finished.IsZero() {
				t.Errorf("%s ended without a result or time", run.ID)
			}
		}
	}
}

func TestARecordedPipelineRetriedAfterHoursFinishesTwice(t *testing.T) {
	var p struct {
		Created  stamp   `json:"created_at"`
		Started  stamp   `json:"started_at"`
		Finished stamp   `json:"finished_at"`
		Duration float64 `json:"duration"`
	}
	for _, data := range rows(t, "_raw_gitlab_api_pipeline_details.csv") {
		if strings.Contains(data, `"id":1078343570`) {
			if err := json.Unmarshal([]byte(data), &p); err != nil {
				t.Fatal(err)
			}
		}
	}
	if p.Created.IsZero() {
		t.Fatal("the recorded pipeline is not there")
	}
	// Its jobs were not recorded: these are as few as fit its figures.
	first := p.Started.Add(time.Duration(p.Duration/2) * time.Second)
	again := p.Finished.Add(-time.Duration(p.Duration/2) * time.Second)
	fs, settled := finishes([]attempt{
		{id: 1, name: "test", created: p.Created.Time, started: p.Started.Time, finished: first, status: "failed"},
		{id: 2, name: "test", created: again, started: again, finished: p.Finished.Time, status: "success"},
	}, p.Finished.Add(time.Hour))
	if !settled || len(fs) != 2 || fs[0].kind != exporter.AttemptFirst || fs[1].kind != exporter.AttemptRerun || !fs[1].at.Equal(p.Finished.Time) {
		t.Fatalf("finishes %+v", fs)
	}
	if sum := *fs[0].duration + *fs[1].duration; sum < p.Duration-2 || sum > p.Duration+2 {
		t.Errorf("the finishes took %g seconds, GitLab says %g", sum, p.Duration)
	}
}

func TestRecordedPipelinesAreRead(t *testing.T) {
	without := 0
	for _, name := range []string{"_raw_gitlab_api_pipeline.csv", "_raw_gitlab_api_pipeline_details.csv"} {
		for _, data := range rows(t, name) {
			var p pipeline
			if err := json.Unmarshal([]byte(data), &p); err != nil || p.ID == 0 || p.Status == "" || p.Ref == "" {
				t.Errorf("%s: %v", data, err)
			}
			if _, ok := lookup(p.Status, ""); !ok {
				t.Errorf("status %q is not in the table", p.Status)
			}
			if p.Updated.IsZero() {
				without++
			}
		}
	}
	if without != 2 {
		t.Errorf("%d pipelines were never updated, want 2", without)
	}
}

// TestTheSimulatedGitLabAnswersBySchema binds the simulation to GitLab's own schemas.
func TestTheSimulatedGitLabAnswersBySchema(t *testing.T) {
	dir := recordings(t, "gitlabhq", "public_api", "v4")
	compile := func(name string) *jsonschema.Schema {
		c := jsonschema.NewCompiler()
		c.DefaultDraft(jsonschema.Draft4)
		c.UseLoader(schemaLoader{})
		abs, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Compile(abs)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	w := newWorld(t)
	w.add("success")
	w.add("failed").Jobs[0].Started = time.Time{}
	w.pass(30 * time.Second)
	w.add("success")
	w.pass(50 * time.Second)
	w.environment("production", "production").InRow = true
	w.deploy("production", "d1")
	w.project.Deployments[0].Job, w.project.Deployments[0].Pipeline = w.project.Pipelines[0].Jobs[0], w.project.Pipelines[0]
	w.deploy("production", "d2")
	for path, schema := range map[string]*jsonschema.Schema{
		"/api/v4/projects/42/pipelines?per_page=100":                       compile("pipeline/basic.json"),
		"/api/v4/projects/42/jobs?pagination=keyset&per_page=100":          compile("job.json"),
		"/api/v4/projects/42/pipelines/1/jobs?include_retried=true":        compile("job.json"),
		"/api/v4/projects/42/deployments?order_by=updated_at":              compile("deployment.json"),
		"/api/v4/projects/42/jobs?per_page=2&page=1&order_by=id&sort=desc": compile("job.json"),
	} {
		rec := httptest.NewRecorder()
		w.fake.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		list, err := jsonschema.UnmarshalJSON(rec.Body)
		if err != nil || len(list.([]any)) == 0 {
			t.Fatalf("%s: %v, %d", path, err, rec.Code)
		}
		for _, row := range list.([]any) {
			delete(row.(map[string]any), "failure_reason") // the schema is of jobs that did not fail
			if err := schema.Validate(row); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

// schemaLoader reads a schema file; a sibling that was not recorded permits everything.
type schemaLoader struct{}

func (schemaLoader) Load(url string) (any, error) {
	v, err := jsonschema.FileLoader{}.Load(url)
	if err != nil {
		return map[string]any{}, nil
	}
	return v, nil
}

func FuzzJobs(f *testing.F) {
	f.Add([]byte(`[{"id":1,"name":"a","status":"success","created_at":"2026-01-02T03:04:05.678Z","started_at":null,"finished_at":"2016-08-12 15:23:28 UTC","duration":null,"pipeline":{"id":2}}]`))
	f.Add([]byte(`[{"id":1,"name":"a","status":"failed","created_at":"2026-01-02T03:04:05Z","started_at":"2026-01-02T03:04:05Z","finished_at":"2021-04-28 21:50:00 +0200","queued_duration":1e300}]`))
	f.Add([]byte(`[{"id":1,"status":"running"},{"id":1,"status":"skipped"},{"id":-3,"name":"a","status":"canceled"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var jobs []job
		if json.Unmarshal(b, &jobs) != nil {
			return
		}
		var attempts []attempt
		for i := range jobs {
			attempts = append(attempts, jobs[i].attempt())
		}
		fs, _ := finishes(attempts, epoch)
		for i, one := range fs {
			if (one.kind == exporter.AttemptFirst) != (i == 0) {
				t.Errorf("finish %d is %s", i, one.kind)
			}
			if i > 0 && !one.at.After(fs[i-1].at) {
				t.Errorf("finish %d at %v does not follow the one at %v", i, one.at, fs[i-1].at)
			}
			if one.duration != nil && *one.duration < 0 {
				t.Errorf("finish %d took %g seconds", i, *one.duration)
			}
		}
		r := &reading{follower: &follower{Source: &Source{host: "gitlab.example.com"}}, graph: graphOf(t)}
		for _, run := range r.tasks(pipeline{ID: 1}, jobs) {
			if run.State != exporter.StateFinished || run.Result == "" {
				t.Errorf("run %+v", run)
			}
		}
	})
}
