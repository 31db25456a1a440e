package fakegitlab

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Size says how much data Generate makes.
type Size struct {
	Projects, Branches, Pipelines, Jobs int // pipelines per project, jobs per pipeline
}

// Generate fills the server with finished pipelines, thirteen minutes apart, the last one thirteen minutes before now.
// The same size and time give the same data.
func (s *Server) Generate(size Size, now time.Time) {
	random := rand.New(rand.NewPCG(1, 2))
	now = now.UTC().Truncate(time.Millisecond)
	s.lastID = max(s.lastID, 1_000_000)
	for i := range size.Projects {
		s.Projects = append(s.Projects, &Project{ID: int64(i + 1), Path: fmt.Sprintf("acme/team-%02d/service-%04d", i%20, i), DefaultBranch: "main"})
	}
	for k := range size.Pipelines {
		for _, p := range s.Projects {
			ref := "main"
			if b := k % size.Branches; b > 0 {
				ref = fmt.Sprintf("feature-%d", b)
			}
			s.AddFinished(p, ref, now.Add(-time.Duration(size.Pipelines-k)*13*time.Minute), size.Jobs, random)
		}
	}
}

// AddFinished adds a pipeline that was created at a time and has run through.
func (s *Server) AddFinished(p *Project, ref string, created time.Time, jobs int, random *rand.Rand) *Pipeline {
	x := s.AddRunning(p, ref, created, jobs, random)
	for _, j := range x.Jobs {
		if j.Finished.After(x.Updated) {
			x.Updated = j.Finished
		}
	}
	x.end = x.Status(x.Updated)
	return x
}

// AddRunning adds a pipeline that is created at a time and runs through from then on.
func (s *Server) AddRunning(p *Project, ref string, created time.Time, jobs int, random *rand.Rand) *Pipeline {
	x := &Pipeline{ID: s.ID(), Ref: ref, Source: "push", SHA: fmt.Sprintf("%040x", random.Uint64()), Created: created}
	for j := range jobs {
		stage := []string{"build", "test", "deploy"}[3*j/jobs]
		queued := created.Add(time.Second)
		started := queued.Add(time.Duration(random.IntN(21)) * time.Second)
		job := &Job{
			ID: s.ID(), Name: fmt.Sprintf("%s-job-%d", stage, j), Stage: stage, Made: created, Reached: queued, Queued: queued, Started: started,
			Finished: started.Add(time.Duration(10+random.IntN(120)) * time.Second), Final: "success",
		}
		if random.IntN(20) == 0 {
			job.Final, job.Reason = "failed", []string{"script_failure", "runner_system_failure", "stuck_or_timeout_failure"}[random.IntN(3)]
		}
		x.Jobs = append(x.Jobs, job)
	}
	p.Pipelines = append(p.Pipelines, x)
	return x
}
