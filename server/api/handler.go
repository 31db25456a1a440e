package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/catalog"
)

// A param is a query parameter.
type param struct{ name, kind, doc string }

// A route is one resource: how it is answered and, for the OpenAPI document, what it takes and gives.
type route struct {
	path    string
	summary string
	params  []param
	answer  reflect.Type // nil: any object
	serve   func(*Reader, *http.Request) (any, error)
}

var (
	paging      = []param{{"limit", "integer", "Items on a page, 1 to 1000; 1000 when left out."}, {"offset", "integer", "Items to leave out."}}
	seriesParam = []param{
		{"points", "integer", "Most points of a series, 0 (none) or 2 to 200; 100 when left out."},
		{"from", "string", "Start of the series, RFC 3339; the start of the window when left out."},
		{"to", "string", "End of the series, RFC 3339; now when left out."},
	}
)

func routes() []route {
	return []route{
		{"/api/v1/owners", "All owners, those in trouble first.", append([]param{{"q", "string", "Only owners whose reference or title holds this text."}}, paging...), reflect.TypeFor[OwnerList](), serveOwners},
		{"/api/v1/owners/{kind}/{namespace}/{name}", "One owner with what it owns, its alerts, runs and problems.", nil, reflect.TypeFor[Owner](), serveOwner},
		{"/api/v1/owners/{kind}/{namespace}/{name}/slos", "Objectives of all entities of an owner, without series.", nil, reflect.TypeFor[OwnerSLOList](), serveOwnerSLOs},
		{"/api/v1/entities/{kind}/{namespace}/{name}", "One entity.", nil, reflect.TypeFor[Entity](), serveEntity},
		{"/api/v1/entities/{kind}/{namespace}/{name}/slos", "Objectives of an entity: budget, burn rates, alerts and the budget over time.", seriesParam, reflect.TypeFor[SLOList](), serveSLOs},
		{"/api/v1/owners/{kind}/{namespace}/{name}/timeline", "What happened to all that an owner owns: runs, alerts, error lines, failed traces.", timelineParams, reflect.TypeFor[Timeline](), serveOwnerTimeline},
		{"/api/v1/entities/{kind}/{namespace}/{name}/timeline", "What happened to an entity: runs, alerts, error lines, failed traces.", timelineParams, reflect.TypeFor[Timeline](), serveEntityTimeline},
		{"/api/v1/slos", "Objectives of all owners, worst first.", append([]param{
			{"owner", "string", "Only this owner's, by reference."},
			{"entity", "string", "Only this entity's, by reference."},
			{"system", "string", "Only this system's, by reference."},
			{"indicator", "string", "Only of this indicator."},
			{"points", "integer", "Most points of a series over the objective's window, 0 (none) or 2 to 200; 0 when left out."},
		}, paging...), reflect.TypeFor[AllSLOList](), serveAllSLOs},
		{"/api/v1/problems", "What is wrong in the catalog.", append([]param{{"owner", "string", "Only this owner's, by full reference."}, {"severity", "string", "Only error, warning or info."}}, paging...), reflect.TypeFor[ProblemList](), serveProblems},
		{"/api/v1/openapi.json", "This document.", nil, nil, serveOpenAPI},
	}
}

// New makes the handler of everything below /api/v1/. It only reads: other methods than GET and HEAD are refused.
func New(r *Reader) http.Handler {
	mux := http.NewServeMux()
	for _, rt := range routes() {
		mux.HandleFunc(rt.path, func(w http.ResponseWriter, req *http.Request) {
			if req.Method != http.MethodGet && req.Method != http.MethodHead {
				w.Header().Set("Allow", "GET, HEAD")
				WriteError(w, Error{Title: "Method not allowed", Status: http.StatusMethodNotAllowed, Detail: req.Method + " is not possible here", Hint: "use GET"})
				return
			}
			body, err := rt.serve(r, req)
			if err != nil {
				WriteError(w, asError(err))
				return
			}
			writeJSON(w, http.StatusOK, "application/json", body)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		WriteError(w, Error{Title: "Not found", Status: http.StatusNotFound, Detail: "there is no resource " + req.URL.Path, Hint: "GET /api/v1/openapi.json lists the resources"})
	})
	return mux
}

// Error makes an Error an error.
func (e Error) Error() string { return e.Detail }

func asError(err error) Error {
	if e, ok := err.(Error); ok {
		return e
	}
	return Error{Title: "Internal error", Status: http.StatusInternalServerError, Detail: err.Error()}
}

// WriteError answers with a problem document.
func WriteError(w http.ResponseWriter, e Error) {
	writeJSON(w, e.Status, "application/problem+json", e)
}

func writeJSON(w http.ResponseWriter, status int, kind string, body any) {
	b, err := json.MarshalIndent(body, "", "  ")
	if err != nil { // NaN would be the only reason, and number leaves it out
		status, kind = http.StatusInternalServerError, "application/problem+json"
		b = []byte(`{"title":"Internal error","status":500,"detail":"the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
}

// PathRef is the reference in the path of a request, {kind}, {namespace} and {name}.
func PathRef(req *http.Request) catalog.Ref {
	return catalog.NewRef(req.PathValue("kind"), req.PathValue("namespace"), req.PathValue("name"))
}

// NotFound is the error for an owner ("owner") or entity ("entity") that is not there, with near names as the hint.
func (s *Snapshot) NotFound(what string, ref catalog.Ref) Error {
	var candidates []catalog.Ref
	if what == "owner" {
		candidates = s.graph.Owners()
	} else {
		for e := range s.graph.Entities() {
			candidates = append(candidates, e.Ref)
		}
	}
	e := Error{Title: "Not found", Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no %s %s in the catalog", what, ref)}
	switch near := Near(ref, candidates); {
	case len(near) > 0:
		names := make([]string, len(near))
		for i, n := range near {
			names[i] = n.String()
		}
		e.Hint = "did you mean " + strings.Join(names, " or ") + "?"
	case s.graph.Len() == 0:
		e.Hint = "the catalog is empty: it has not been loaded yet"
	default:
		e.Hint = "check kind, namespace and name; GET /api/v1/owners lists the owners"
	}
	return e
}

func badParam(name, value, hint string) Error {
	return Error{Title: "Bad parameter", Status: http.StatusBadRequest, Detail: fmt.Sprintf("parameter %s: %q is not possible", name, value), Hint: hint}
}

func intParam(req *http.Request, name string, fallback, least, most int) (int, error) {
	text := req.URL.Query().Get(name)
	if text == "" {
		return fallback, nil
	}
	v, err := strconv.Atoi(text)
	if err != nil || v < least || v > most {
		return 0, badParam(name, text, fmt.Sprintf("write a whole number from %d to %d", least, most))
	}
	return v, nil
}

func timeParam(req *http.Request, name string) (time.Time, error) {
	text := req.URL.Query().Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, badParam(name, text, "write a time like 2026-01-02T15:04:05Z")
	}
	return t, nil
}

// pageParams reads which part of a list is asked for.
func pageParams(req *http.Request) (limit, offset int, err error) {
	if limit, err = intParam(req, "limit", 1000, 1, 1000); err != nil {
		return 0, 0, err
	}
	offset, err = intParam(req, "offset", 0, 0, 1<<31-1)
	return limit, offset, err
}

func page[T any](req *http.Request, all []T) ([]T, error) {
	limit, offset, err := pageParams(req)
	if err != nil {
		return nil, err
	}
	all = all[min(offset, len(all)):]
	return orEmpty(all[:min(limit, len(all))]), nil
}

func serveOwners(r *Reader, req *http.Request) (any, error) {
	all := r.Snapshot(req.Context()).FindOwners(req.URL.Query().Get("q"))
	items, err := page(req, all)
	return OwnerList{items, len(all)}, err
}

func serveOwner(r *Reader, req *http.Request) (any, error) {
	s, ref := r.Snapshot(req.Context()), PathRef(req)
	o, ok := s.Owner(ref)
	if !ok {
		return nil, s.NotFound("owner", ref)
	}
	o.Delivery = s.OwnerDelivery(req.Context(), ref)
	return o, nil
}

func serveOwnerSLOs(r *Reader, req *http.Request) (any, error) {
	s, ref := r.Snapshot(req.Context()), PathRef(req)
	if _, ok := s.Owner(ref); !ok {
		return nil, s.NotFound("owner", ref)
	}
	l := s.list(ref, s.OwnerSLOs(ref), s.Issues(ref, ""))
	return OwnerSLOList{Owner: ref, Time: l.Time, Items: l.Items, Issues: l.Issues, StoreError: l.StoreError, StoreWarnings: l.StoreWarnings}, nil
}

func serveEntity(r *Reader, req *http.Request) (any, error) {
	s, ref := r.Snapshot(req.Context()), PathRef(req)
	e, ok := s.Entity(ref)
	if !ok {
		return nil, s.NotFound("entity", ref)
	}
	e.Delivery = s.EntityDelivery(req.Context(), ref)
	return e, nil
}

func serveSLOs(r *Reader, req *http.Request) (any, error) {
	points, err := intParam(req, "points", 100, 0, MaxPoints)
	if err != nil {
		return nil, err
	}
	from, err := timeParam(req, "from")
	if err != nil {
		return nil, err
	}
	to, err := timeParam(req, "to")
	if err != nil {
		return nil, err
	}
	s, ref := r.Snapshot(req.Context()), PathRef(req)
	if end := to; !from.IsZero() {
		if end.IsZero() {
			end = s.Time
		}
		if !end.After(from) {
			return nil, badParam("from", from.Format(time.RFC3339), "it has to be before the end")
		}
	}
	e, ok := s.Entity(ref)
	if !ok {
		return nil, s.NotFound("entity", ref)
	}
	out := s.list(ref, s.EntitySLOs(ref), e.Issues)
	if points > 0 {
		if err := s.AddSeries(req.Context(), out.Items, from, to, points); err != nil {
			out.StoreError = cmp.Or(out.StoreError, withHint(err)) // the last figures are worth more than an error page
		}
	}
	return out, nil
}

func serveProblems(r *Reader, req *http.Request) (any, error) {
	var owner catalog.Ref
	if text := req.URL.Query().Get("owner"); text != "" {
		var err error
		if owner, err = catalog.ParseRef(text, "group"); err != nil {
			return nil, badParam("owner", text, "write a reference like group:default/payments")
		}
	}
	severity := req.URL.Query().Get("severity")
	if severity != "" && !slices.Contains([]string{"error", "warning", "info"}, severity) {
		return nil, badParam("severity", severity, "write error, warning or info")
	}
	all := r.Snapshot(req.Context()).Issues(owner, severity)
	items, err := page(req, all)
	return ProblemList{items, len(all)}, err
}

func serveOpenAPI(r *Reader, _ *http.Request) (any, error) { return OpenAPI(r.State().Version()), nil }
