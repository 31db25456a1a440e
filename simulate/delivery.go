package simulate

import (
	"fmt"
	"math"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/exporter"
)

// This file plays what the sources measure beside runs: what jobs lost and left, deployments and what became of them, and
// the way of scaffolded projects. Values are whole numbers, so that sums are the same in any order.

const (
	production = "production"
	// journeys is how long after its task a scaffolded project may reach a milestone.
	journeys = 3 * 24 * time.Hour
)

// A played is one pipeline or task with all that is measured of it.
type played struct {
	runs []exporter.Run // the pipeline or task last
	seen []exporter.Observation
	// deployed is the successful deployment to production that the pipeline made; its ID is zero where it made none.
	deployed exporter.Observation
}

// whole is the pipeline or task.
func (p *played) whole() *exporter.Run { return &p.runs[len(p.runs)-1] }

// see notes an observation of the run's entity. id names it within the run's project.
func (p *played) see(kind exporter.ObservationKind, id string, at time.Time, value float64, labels ...string) {
	w := p.whole()
	p.seen = append(p.seen, exporter.Observation{
		ID: exporter.RunID{Source: w.ID.Source, Host: w.ID.Host, Key: id}, Kind: kind, Entity: w.Entity, Owner: w.Owner, System: w.System,
		Labels: labels, Value: value, At: at,
	})
}

// ofTask notes an observation that counts with a job.
func (p *played) ofTask(job *exporter.Run, kind exporter.ObservationKind, value float64, labels ...string) {
	p.see(kind, job.ID.Key, job.Finished, value, labels...)
	p.seen[len(p.seen)-1].OfTask = true
}

// declare makes a series exist at zero.
func (p *played) declare(kind exporter.ObservationKind, at time.Time, labels ...string) {
	p.see(kind, "", at, 0, labels...)
	p.seen[len(p.seen)-1].Declare = true
}

// measureJobs notes what the jobs of a pipeline tell beside their results.
func (p *played) measureJobs() {
	w := p.whole()
	attempts := map[string]*exporter.Run{} // the one before
	for i := range p.runs[:len(p.runs)-1] {
		job := &p.runs[i]
		if job.Result == exporter.ResultSkip {
			continue
		}
		tags := "docker"
		if job.Name == "deploy" {
			tags = "deploy,docker"
		}
		p.ofTask(job, exporter.RunnerWait, *job.Queued, tags)
		p.ofTask(job, exporter.LostTime, *job.Queued, "queue")
		if job.Result != exporter.ResultSuccess {
			p.ofTask(job, exporter.TaskFailures, 1, w.Pipeline, job.Reason)
		}
		if size, ok := map[string]float64{"build": 40e6, "test": 300e3}[job.Name]; ok {
			p.ofTask(job, exporter.ArtifactSize, math.Round(size*(0.1+unit(w.Entity, job.Name, "size"))), w.Pipeline)
		}
		if before := attempts[job.Name]; before != nil {
			p.ofTask(job, exporter.TaskRetries, 1, w.Pipeline, job.Name)
			p.ofTask(job, exporter.LostTime, *before.Duration, "retry")
			if before.Result != exporter.ResultSuccess && job.Result == exporter.ResultSuccess {
				p.see(exporter.FlakyTasks, w.ID.Key+"/flaky/"+job.Name, job.Finished, 1, w.Pipeline, job.Name)
			}
		}
		attempts[job.Name] = job
	}
	p.declare(exporter.LostTime, w.Finished, "queue")
	p.declare(exporter.LostTime, w.Finished, "retry")
	if test := attempts["test"]; test != nil {
		p.measureTests(test)
	}
}

// measureTests notes test cases, and coverage where the tests passed. A component's coverage rises or falls slowly.
func (p *played) measureTests(test *exporter.Run) {
	w := p.whole()
	failed := 0.0
	if test.Result != exporter.ResultSuccess {
		failed = 1 + math.Floor(6*unit(w.ID.Key, "failed cases"))
	}
	all, skipped := 80+math.Floor(900*unit(w.Entity, "cases")), math.Floor(6*unit(w.Entity, "skipped cases"))
	for _, c := range []struct {
		result string
		cases  float64
	}{{"success", all - failed}, {"failed", failed}, {"error", 0}, {"skipped", skipped}} {
		if c.cases == 0 {
			p.declare(exporter.TestCases, w.Finished, w.Pipeline, c.result)
			continue
		}
		p.see(exporter.TestCases, w.ID.Key+"/tests/"+c.result, w.Finished, c.cases, w.Pipeline, c.result)
	}
	if test.Result == exporter.ResultSuccess {
		drift := 0.03 * math.Sin(float64(w.Finished.Unix())/(86400*9)+6*unit(w.Entity, "phase"))
		covered := math.Round(1000*(0.42+0.5*unit(w.Entity, "coverage")+drift)) / 1000
		p.see(exporter.Coverage, fmt.Sprintf("%s/finish/%d", w.ID.Key, w.Finished.UnixMilli()), w.Finished, covered, w.Pipeline, w.RefKind)
	}
}

// measureFeedback notes how long people waited for the first result.
func (p *played) measureFeedback(project string) {
	w := p.whole()
	if w.Result == exporter.ResultCancellation {
		return
	}
	wait := w.Finished.Sub(w.Created).Seconds()
	p.see(exporter.FirstFeedback, project+"/commit/"+w.ID.Key, w.Finished, wait, "commit")
	if w.RefKind == "merge_request" && unit(w.ID.Key, "opened") < 0.5 {
		p.see(exporter.FirstFeedback, project+"/merge_request/"+w.ID.Key, w.Finished, wait+math.Round(3+40*unit(w.ID.Key, "opening")), "merge_request")
	}
}

// measureDeployment notes the deployment that the last job of a pipeline made, and what became of it. A change that turns
// out to be bad is rolled back soon or mended some hours later.
func (p *played) measureDeployment(project string) {
	w := p.whole()
	job := &p.runs[len(p.runs)-2]
	if job.Name != "deploy" || job.Result == exporter.ResultSkip {
		return
	}
	tier, result, at := production, exporter.ResultSuccess, job.Finished
	if w.RefKind != "default" {
		tier = "development"
	}
	if job.Result != exporter.ResultSuccess {
		result = exporter.ResultFailure
	}
	p.declare(exporter.Deployments, at, tier, string(exporter.ResultSuccess))
	p.declare(exporter.Deployments, at, tier, string(exporter.ResultFailure))
	id := project + "/deployment/" + w.ID.Key
	p.see(exporter.Deployments, id, at, 1, tier, string(result))
	deployed := p.seen[len(p.seen)-1]
	if tier != production {
		return
	}
	for _, cause := range []string{"rollback", "fix"} {
		p.declare(exporter.DeploymentsFailed, at, production, cause)
		p.declare(exporter.DeploymentsRework, at, production, cause)
	}
	p.declare(exporter.DeploymentsFailed, at, production, "incident")
	if result != exporter.ResultSuccess {
		return
	}
	p.deployed = deployed
	p.measureLeadTime(id, at)
	if unit(w.ID.Key, "bad change") >= 0.02+0.06*flakiness(w.Entity) {
		return
	}
	cause, mended := "rollback", math.Round(900+2400*unit(w.ID.Key, "mended"))
	if unit(w.ID.Key, "cause") < 0.4 {
		cause, mended = "fix", math.Round(3600*(1+3*unit(w.ID.Key, "mended")))
	}
	then := at.Add(time.Duration(mended) * time.Second)
	p.see(exporter.DeploymentsFailed, id, then, 1, production, cause)
	p.see(exporter.RecoveryTime, id, then, mended, production)
	p.see(exporter.Deployments, id+"/"+cause, then, 1, production, string(exporter.ResultSuccess))
	p.see(exporter.DeploymentsRework, id+"/"+cause, then, 1, production, cause)
}

// measureLeadTime notes how old the commits of a change are. Teams differ.
func (p *played) measureLeadTime(id string, at time.Time) {
	w := p.whole()
	pace := 0.3 + 3*math.Pow(unit(w.Owner, "pace"), 2)
	coding := math.Round(pace * (1800 + 36000*math.Pow(unit(w.ID.Key, "coding"), 2)))
	review := math.Round(pace * (600 + 90000*math.Pow(unit(w.ID.Key, "review"), 3)))
	deploy := at.Sub(w.Created).Seconds()
	for i := range 1 + int(3*unit(w.ID.Key, "commits")) {
		rest := math.Round(coding / float64(i+1))
		p.see(exporter.LeadTime, fmt.Sprintf("%s/commit/%d", id, i), at, rest+review+deploy, production, "total")
	}
	p.see(exporter.LeadTime, id+"/coding", at, coding, production, "coding")
	p.see(exporter.LeadTime, id+"/review", at, review, production, "review")
	p.see(exporter.LeadTime, id+"/deploy", at, deploy, production, "deploy")
}

// measureJourney notes when the project that a task made reached its milestones. Not every project gets to all of them.
func (p *played) measureJourney(owners []catalog.Ref) {
	w := p.whole()
	if w.Result != exporter.ResultSuccess || len(owners) == 0 {
		return
	}
	owner := owners[hash(w.ID.Key, "team")%uint64(len(owners))]
	since := 0.0
	for _, m := range []struct {
		milestone        string
		least, most, may float64 // seconds after the one before; probability
	}{
		{"project", 8, 30, 1},
		{"first_pipeline", 5, 90, 1},
		{"first_green", 200, 4000, 0.92},
		{"first_deployment", 600, journeys.Seconds() - 3600 - 4120, 0.75},
	} {
		if unit(w.ID.Key, m.milestone, "reached") >= m.may {
			return
		}
		since += math.Round(m.least + (m.most-m.least)*math.Pow(unit(w.ID.Key, m.milestone), 3))
		p.see(exporter.Journey, "journey/"+w.ID.Key+"/"+m.milestone, w.Created.Add(time.Duration(since)*time.Second), since, w.Pipeline, m.milestone)
		o := &p.seen[len(p.seen)-1]
		o.ID.Source, o.Owner = "gitlab", owner
	}
}

// failures are the incidents of an entity that began on a day, each put down to the deployment before it, if that is not
// older than a day.
func failures(g *catalog.Graph, e *catalog.Entity, start, day time.Time) []exporter.Observation {
	var out []exporter.Observation
	s := newService(e, start)
	for _, in := range s.incidents {
		began := in.from
		if in.everyDays > 0 {
			began = day.Add(in.at)
		}
		if began.Before(day) || !began.Before(day.Add(24*time.Hour)) || !in.active(began) {
			continue
		}
		ended := began.Add(in.lasts).Truncate(time.Second)
		began = began.Add(3 * time.Minute).Truncate(time.Second) // when the alert fires
		var of exporter.Observation
		for _, p := range append(pipelinesOfDay(g, e, day.Add(-24*time.Hour)), pipelinesOfDay(g, e, day)...) {
			if d := p.deployed; d.ID.Key != "" && !d.At.After(began) && began.Sub(d.At) <= 24*time.Hour && d.At.After(of.At) {
				of = d
			}
		}
		if of.ID.Key == "" {
			continue
		}
		failed, recovered := of, of
		failed.Kind, failed.At, failed.Labels = exporter.DeploymentsFailed, began, []string{production, "incident"}
		recovered.Kind, recovered.At, recovered.Value, recovered.Labels = exporter.RecoveryTime, ended, ended.Sub(began).Seconds(), []string{production}
		out = append(out, failed, recovered)
	}
	return out
}
