package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lithammer/fuzzysearch/fuzzy"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/engine"
	"github.com/sightline-dev/sightline/exporter"
	"github.com/sightline-dev/sightline/slo"
)

// burnWindows are the windows of burn rates, short to long.
var burnWindows = [...]string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"}

const (
	snapshotAge = 10 * time.Second // how long one is served again
	storeLimit  = 20 * time.Second // for all the queries of one snapshot
	runsShown   = 15
)

// A Reader makes Snapshots of a State. One snapshot costs one query per recorded series, whatever the number of
// objectives, and is shared for some seconds. Safe for concurrent use.
type Reader struct {
	state State
	now   func() time.Time

	mu   sync.Mutex // held while a snapshot is made, so that readers wait for the one that is under way
	last *Snapshot
	good *figures // of the last time that the store answered everything; nil before
}

// figures are what the store said at a time.
type figures struct {
	at        time.Time
	remaining map[string]float64
	burn      [len(burnWindows)]map[string]float64
	alerts    []Alert
}

// NewReader makes a Reader; now is the clock.
func NewReader(s State, now func() time.Time) *Reader { return &Reader{state: s, now: now} }

// State gives what the reader reads from.
func (r *Reader) State() State { return r.state }

// A Snapshot is a consistent picture of a State at a time. It is not changed after it was made.
type Snapshot struct {
	Time     time.Time
	StoreErr error     // why figures or alerts are missing or old; nil when the store answered
	Figures  time.Time // what time the figures and alerts are of; zero: there are none, or not all
	Warnings []string  // what the store says about figures that may be incomplete

	reader    *Reader
	graph     *catalog.Graph
	objective []Objective
	byEntity  map[catalog.Ref][]int
	byOwner   map[catalog.Ref][]int
	slos      []SLO
	alerts    []FiringAlert // firing first, then pending, newest first
	issues    []Issue
	owners    []OwnerSummary // worst first
	unowned   []catalog.Ref
}

// Snapshot gives the current picture. It always gives one: where the store does not answer, StoreErr says so and the
// figures are those of the last time that it did; if it never did, they are missing.
func (r *Reader) Snapshot(ctx context.Context) *Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if r.last != nil && now.Sub(r.last.Time) < snapshotAge && now.Sub(r.last.Time) >= 0 && r.last.graph == r.state.Graph() {
		return r.last
	}
	// The answer is for everybody who waits, so one reader's going away does not end it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeLimit)
	defer cancel()
	r.last = r.build(ctx, now)
	return r.last
}

func (r *Reader) build(ctx context.Context, now time.Time) *Snapshot {
	s := &Snapshot{
		Time: now, reader: r, graph: r.state.Graph(), objective: r.state.Objectives(),
		byEntity: map[catalog.Ref][]int{}, byOwner: map[catalog.Ref][]int{},
	}
	ctx, warnings := engine.WithWarnings(ctx)
	f, err := r.ask(ctx, len(s.objective) > 0, now)
	s.StoreErr, s.Warnings = err, warnings.List()
	switch {
	case err == nil:
		s.Figures, r.good = now, f
	case r.good != nil:
		s.Figures, f = r.good.at, r.good
	}
	s.setAlerts(f.alerts)
	alertsOf := map[string][]FiringAlert{}
	for _, a := range s.alerts {
		if a.SLO != "" {
			alertsOf[a.SLO] = append(alertsOf[a.SLO], a)
		}
	}
	s.slos = make([]SLO, len(s.objective))
	for i, o := range s.objective {
		s.byEntity[o.Entity] = append(s.byEntity[o.Entity], i)
		s.byOwner[o.Owner] = append(s.byOwner[o.Owner], i)
		s.slos[i] = makeSLO(o, f.remaining, f.burn, alertsOf[o.ID])
		s.slos[i].notes(&o, now)
	}
	for _, p := range r.state.Problems() {
		s.issues = append(s.issues, Issue{string(p.Severity), p.Entity, p.Owner, p.Annotation, p.File, p.Line, p.Column, p.Message, p.Hint, p.Rule})
	}
	bad := map[string]int{string(catalog.SeverityError): 0, string(catalog.SeverityWarning): 1, string(catalog.SeverityInfo): 2}
	slices.SortStableFunc(s.issues, func(a, b Issue) int { return cmp.Compare(bad[a.Severity], bad[b.Severity]) })
	s.summarise()
	return s
}

// ask asks for every recorded series once. On an error it gives what there was until then. The period group runs every
// five minutes, as long as an instant query looks back, so its value is looked for a little further.
func (r *Reader) ask(ctx context.Context, objectives bool, now time.Time) (*figures, error) {
	f := &figures{at: now}
	q := r.state.Querier()
	if objectives && q == nil {
		return f, fmt.Errorf("there is no store to ask")
	}
	var err error
	if f.alerts, err = r.state.Alerts(ctx); err != nil {
		return f, fmt.Errorf("read alerts: %w", err)
	}
	if !objectives {
		return f, nil
	}
	ask := func(expr string) (map[string]float64, error) {
		samples, err := q.Query(ctx, expr, now)
		if err != nil {
			return nil, fmt.Errorf("read figures: %w", err)
		}
		m := make(map[string]float64, len(samples))
		for _, v := range samples {
			if number(v.Value) != nil {
				m[v.Labels["sloth_id"]] = v.Value
			}
		}
		return m, nil
	}
	if f.remaining, err = ask(`max by (sloth_id) (last_over_time(slo:period_error_budget_remaining:ratio[11m]))`); err != nil {
		return f, err
	}
	for i, w := range burnWindows {
		if f.burn[i], err = ask(`max by (sloth_id) (slo:sli_error:ratio_rate` + w + `)`); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (s *Snapshot) setAlerts(alerts []Alert) {
	for _, a := range alerts {
		f := FiringAlert{
			Name: a.Name, State: a.State, Severity: a.Labels["severity"], SLO: a.Labels["sloth_id"], Indicator: a.Labels["sloth_slo"],
			Summary: cmp.Or(a.Annotations["summary"], a.Annotations["description"]), Runbook: a.Annotations["runbook_url"], Since: moment(a.ActiveAt),
		}
		f.Entity, _ = catalog.ParseRef(a.Labels["entity"], "component")
		f.Owner, _ = catalog.ParseRef(a.Labels["owner"], "group")
		s.alerts = append(s.alerts, f)
	}
	slices.SortStableFunc(s.alerts, func(a, b FiringAlert) int {
		return cmp.Or(cmp.Compare(a.State, b.State), cmp.Compare(a.Severity, b.Severity), compareSince(b.Since, a.Since),
			a.Entity.Compare(b.Entity), cmp.Compare(a.Indicator, b.Indicator), cmp.Compare(a.Name, b.Name))
	})
}

func compareSince(a, b *time.Time) int {
	var x, y time.Time
	if a != nil {
		x = *a
	}
	if b != nil {
		y = *b
	}
	return x.Compare(y)
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func makeSLO(o Objective, remaining map[string]float64, burn [len(burnWindows)]map[string]float64, alerts []FiringAlert) SLO {
	out := SLO{
		ID: o.ID, Entity: o.Entity, Owner: o.Owner, System: o.System, Indicator: o.Indicator, Title: o.Title, Target: o.Target,
		Threshold: o.Threshold, Window: o.Window, Defaulted: o.Defaulted, Tier: o.Tier, Runbook: o.Runbook, Source: o.Source,
		Alerts: orEmpty(alerts), BurnRates: []BurnRate{}, Series: []Point{}, NoData: true, Status: StatusNoData,
	}
	target, err := slo.ParseTarget(o.Target)
	if err != nil {
		return out
	}
	if share, err := strconv.ParseFloat(target.Ratio(), 64); err == nil {
		out.Objective = number(share)
	}
	minutes := slo.BudgetTime(o.Length, target).Minutes()
	if o.Length > 0 {
		out.BudgetMinutes = number(minutes)
	}
	for i, w := range burnWindows {
		b := BurnRate{Window: w}
		if v, ok := burn[i][o.ID]; ok {
			b.Rate = number(slo.BurnRate(v, target))
		}
		out.BurnRates = append(out.BurnRates, b)
	}
	firing := slices.ContainsFunc(alerts, func(a FiringAlert) bool { return a.State == "firing" })
	left, ok := remaining[o.ID]
	if ok {
		out.NoData = false
		out.BudgetRemaining = number(left)
		// Computed back from the budget: the name of the recorded ratio differs with the window.
		out.SLI = number(slo.SLIFromBudget(left, target))
		if o.Length > 0 {
			out.BudgetRemainingMinutes = number(left * minutes)
		}
	}
	switch {
	case ok && left < 0:
		out.Status = StatusBreaching
	case firing:
		out.Status = StatusBurning
	case ok && left < 0.25:
		out.Status = StatusLow
	case ok:
		out.Status = StatusOK
	}
	return out
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func (s *Snapshot) summarise() {
	firing, problems := map[catalog.Ref]int{}, map[catalog.Ref]int{}
	for _, a := range s.alerts {
		if a.State == "firing" {
			firing[a.Owner]++
		}
	}
	for _, p := range s.issues {
		problems[p.Owner]++
	}
	unowned := map[catalog.Ref]int{}
	for e := range s.graph.Entities() {
		if o := s.graph.Ownership(e.Ref); o.Unowned && ownable(e.Ref.Kind) {
			s.unowned = append(s.unowned, e.Ref)
			unowned[o.Owner]++
		}
	}
	for _, ref := range s.graph.Owners() {
		o := OwnerSummary{Ref: ref, Title: s.Label(ref), Unowned: unowned[ref], FiringAlerts: firing[ref], Problems: problems[ref]}
		for _, e := range s.graph.OwnedBy(ref) {
			if e.Ref == ref {
				continue
			}
			o.Entities++
			if e.Ref.Kind == "component" {
				o.Components++
			}
		}
		for _, i := range s.byOwner[ref] {
			o.add(s.slos[i])
		}
		s.owners = append(s.owners, o)
	}
	slices.SortStableFunc(s.owners, func(a, b OwnerSummary) int {
		return cmp.Or(cmp.Compare(b.FiringAlerts, a.FiringAlerts), cmp.Compare(rank(a.WorstBudget), rank(b.WorstBudget)), cmp.Compare(b.SLOs, a.SLOs), a.Ref.Compare(b.Ref))
	})
}

// ownable tells the kinds that somebody should own; a location or a user has no owner by nature.
func ownable(kind string) bool {
	switch kind {
	case "component", "api", "resource", "system", "domain", "template":
		return true
	}
	return false
}

func rank(n Number) float64 {
	if n == nil {
		return 2 // after every known budget
	}
	return *n
}

func (o *OwnerSummary) add(s SLO) {
	o.SLOs++
	switch {
	case s.NoData:
		o.NoData++
	case s.Status == StatusBreaching:
		o.Breaching++
	}
	o.WorstBudget = smaller(o.WorstBudget, s.BudgetRemaining)
}

func smaller(a, b Number) Number {
	if b == nil || a != nil && *a <= *b {
		return a
	}
	return b
}

// Label is the title of an entity, else its name as written, else its reference.
func (s *Snapshot) Label(r catalog.Ref) string {
	if e := s.graph.Entity(r); e != nil {
		return e.Label()
	}
	return r.Name
}

// Owners gives all owners, those in trouble first.
func (s *Snapshot) Owners() []OwnerSummary { return s.owners }

// FindOwners gives the owners whose reference or title holds the text, without regard to case.
func (s *Snapshot) FindOwners(text string) []OwnerSummary {
	text = strings.ToLower(strings.TrimSpace(text))
	if text == "" {
		return s.owners
	}
	out := []OwnerSummary{}
	for _, o := range s.owners {
		if strings.Contains(o.Ref.String(), text) || strings.Contains(strings.ToLower(o.Title), text) {
			out = append(out, o)
		}
	}
	return out
}

// SLOs gives every objective, by entity and indicator.
func (s *Snapshot) SLOs() []SLO { return s.slos }

// Unowned gives the entities without a valid owner of their own, sorted.
func (s *Snapshot) Unowned() []catalog.Ref { return s.unowned }

// Alerts gives all alerts, firing ones first.
func (s *Snapshot) Alerts() []FiringAlert { return s.alerts }

// Issues gives the problems of an owner ("" or zero: of all) and severity ("": any).
func (s *Snapshot) Issues(owner catalog.Ref, severity string) []Issue {
	out := []Issue{}
	for _, p := range s.issues {
		if (owner.IsZero() || p.Owner == owner) && (severity == "" || p.Severity == severity) {
			out = append(out, p)
		}
	}
	return out
}

// Owner gives one owner; false when there is none of that name.
func (s *Snapshot) Owner(ref catalog.Ref) (Owner, bool) {
	i := slices.IndexFunc(s.owners, func(o OwnerSummary) bool { return o.Ref == ref })
	if i < 0 {
		return Owner{}, false
	}
	out := Owner{OwnerSummary: s.owners[i], Owns: []EntitySummary{}, Alerts: []FiringAlert{}, Runs: []Run{}, Issues: s.Issues(ref, "")}
	if e := s.graph.Entity(ref); e != nil {
		out.Parent = e.Parent
	}
	for _, a := range s.alerts {
		if a.Owner == ref {
			out.Alerts = append(out.Alerts, a)
		}
	}
	for _, e := range s.graph.OwnedBy(ref) {
		if e.Ref != ref {
			out.Owns = append(out.Owns, s.entitySummary(e))
		}
		out.Runs = append(out.Runs, s.runs(e.Ref)...)
	}
	slices.SortStableFunc(out.Runs, func(a, b Run) int { return cmp.Or(compareSince(b.Created, a.Created), cmp.Compare(a.ID, b.ID)) })
	out.Runs = out.Runs[:min(len(out.Runs), runsShown)]
	return out, true
}

func (s *Snapshot) entitySummary(e *catalog.Entity) EntitySummary {
	out := EntitySummary{Ref: e.Ref, Title: e.Label(), Type: e.Type, Lifecycle: e.Lifecycle}
	for _, i := range s.byEntity[e.Ref] {
		out.SLOs++
		out.WorstBudget = smaller(out.WorstBudget, s.slos[i].BudgetRemaining)
		for _, a := range s.slos[i].Alerts {
			if a.State == "firing" {
				out.FiringAlerts++
			}
		}
	}
	return out
}

// Entity gives one entity; false when it is not in the catalog.
func (s *Snapshot) Entity(ref catalog.Ref) (Entity, bool) {
	e := s.graph.Entity(ref)
	if e == nil {
		return Entity{}, false
	}
	o := s.graph.Ownership(ref)
	out := Entity{
		EntitySummary: s.entitySummary(e), Description: e.Description, Owner: o.Owner, Unowned: o.Unowned, UnownedReason: o.Reason,
		System: s.graph.System(ref), Domain: s.graph.Domain(ref), Alerts: []FiringAlert{}, Runs: orEmpty(s.runs(ref)), Issues: []Issue{},
	}
	for _, a := range s.alerts {
		if a.Entity == ref {
			out.Alerts = append(out.Alerts, a)
		}
	}
	for _, p := range s.issues {
		if p.Entity == ref {
			out.Issues = append(out.Issues, p)
		}
	}
	return out, true
}

func (s *Snapshot) runs(ref catalog.Ref) []Run {
	var out []Run
	for _, r := range s.reader.state.Runs(ref, runsShown) {
		out = append(out, makeRun(r))
	}
	return out
}

func makeRun(r exporter.Run) Run {
	out := Run{
		ID: r.ID.String(), Source: r.ID.Source, Entity: r.Entity, Name: cmp.Or(r.Name, r.Pipeline), RefKind: r.RefKind, State: string(r.State),
		Result: string(r.Result), Reason: r.Reason, Created: moment(r.Created), Started: moment(r.Started), Finished: moment(r.Finished), URL: r.URL,
	}
	if r.Duration != nil {
		out.Duration = number(*r.Duration)
	}
	return out
}

// EntitySLOs gives the objectives of an entity, without series.
func (s *Snapshot) EntitySLOs(ref catalog.Ref) []SLO { return s.pick(s.byEntity[ref]) }

// OwnerSLOs gives the objectives of an owner's entities, without series.
func (s *Snapshot) OwnerSLOs(ref catalog.Ref) []SLO { return s.pick(s.byOwner[ref]) }

func (s *Snapshot) pick(indexes []int) []SLO {
	out := make([]SLO, 0, len(indexes))
	for _, i := range indexes {
		out = append(out, s.slos[i])
	}
	return out
}

// MaxPoints is the most points of one series.
const MaxPoints = 200

// AddSeries fills Series of the objectives with the budget left from one time to another, in points steps (2 to
// MaxPoints), by one query for all. Zero times mean the objective's own window, up to now.
func (s *Snapshot) AddSeries(ctx context.Context, slos []SLO, from, to time.Time, points int) error {
	if len(slos) == 0 {
		return nil
	}
	q := s.reader.state.Querier()
	if q == nil {
		return fmt.Errorf("there is no store to ask")
	}
	if to.IsZero() {
		to = s.Time
	}
	if from.IsZero() {
		var longest time.Duration
		for _, v := range slos {
			for _, i := range s.byEntity[v.Entity] {
				if s.objective[i].ID == v.ID {
					longest = max(longest, s.objective[i].Length)
				}
			}
		}
		if longest <= 0 {
			longest = 30 * 24 * time.Hour
		}
		from = to.Add(-longest)
	}
	for i := range slos {
		for _, j := range s.byEntity[slos[i].Entity] {
			if o := &s.objective[j]; o.ID == slos[i].ID && o.SLO != nil {
				slos[i].exclude(o.SLO, from, to)
			}
		}
	}
	points = min(max(points, 2), MaxPoints)
	step := max((to.Sub(from) / time.Duration(points-1)).Round(time.Second), time.Second)
	ids := make([]string, len(slos))
	at := map[string]int{}
	for i, v := range slos {
		ids[i] = strings.ReplaceAll(regexp.QuoteMeta(v.ID), `\`, `\\`)
		at[v.ID] = i
	}
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	expr := `max by (sloth_id) (last_over_time(slo:period_error_budget_remaining:ratio{sloth_id=~"` + strings.ReplaceAll(strings.Join(ids, "|"), `"`, `\"`) + `"}[11m]))`
	series, err := q.QueryRange(ctx, expr, from, to, step)
	if err != nil {
		return fmt.Errorf("read the budget over time: %w", err)
	}
	for _, one := range series {
		i, ok := at[one.Labels["sloth_id"]]
		if !ok {
			continue
		}
		list := make([]Point, 0, len(one.Points))
		for _, p := range one.Points {
			list = append(list, Point{p.Time.UTC(), number(p.Value)})
		}
		slos[i].Series = list[max(0, len(list)-MaxPoints):]
	}
	return nil
}

// list gives objectives as an answer, with how far its figures can be trusted.
func (s *Snapshot) list(ref catalog.Ref, items []SLO, issues []Issue) SLOList {
	out := SLOList{Entity: ref, Time: s.Time.UTC(), Items: items, Issues: issues, StoreWarnings: orEmpty(s.Warnings)}
	if s.StoreErr != nil {
		out.StoreError = withHint(s.StoreErr)
		if !s.Figures.IsZero() {
			out.Time = s.Figures.UTC()
		}
	}
	return out
}

// StoreNotice says in a sentence how far the figures can be trusted; "" when all is well.
func (s *Snapshot) StoreNotice() string {
	switch {
	case s.StoreErr != nil && s.Figures.IsZero():
		return "Figures are missing: " + withHint(s.StoreErr)
	case s.StoreErr != nil:
		return "Figures are of " + s.Figures.UTC().Format("2006-01-02 15:04:05 UTC") + ", the last time that the store answered: " + withHint(s.StoreErr)
	case len(s.Warnings) > 0:
		return "Figures may be incomplete; the store says: " + strings.Join(s.Warnings, "; ")
	}
	return ""
}

func withHint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		return err.Error() + " (" + h.Hint() + ")"
	}
	return err.Error()
}

// Near gives up to three references like r among the candidates, for "did you mean".
func Near(r catalog.Ref, candidates []catalog.Ref) []catalog.Ref {
	type scored struct {
		ref  catalog.Ref
		cost int
	}
	var found []scored
	for _, c := range candidates {
		cost := fuzzy.LevenshteinDistance(r.Name, c.Name)
		if c.Name == r.Name && c != r {
			cost = 1
		}
		if cost <= min(3, max(1, len(r.Name)/3)) {
			if c.Kind != r.Kind {
				cost++
			}
			found = append(found, scored{c, cost})
		}
	}
	slices.SortFunc(found, func(a, b scored) int { return cmp.Or(cmp.Compare(a.cost, b.cost), a.ref.Compare(b.ref)) })
	var out []catalog.Ref
	for _, f := range found[:min(3, len(found))] {
		out = append(out, f.ref)
	}
	return out
}
