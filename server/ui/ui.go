// Package ui is the web UI: server-rendered pages on the read model of server/api. It needs no JavaScript and fetches
// nothing from anywhere else.
package ui

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/server/api"
)

//go:embed templates/*.html static/*
var files embed.FS

// Options are what the pages need besides the read model.
type Options struct {
	// Check tells whether a token is good; nil means that there is no authentication, and then no login page.
	Check func(ctx context.Context, token string) error
	// Cookie is the name of the cookie that carries the token.
	Cookie string
}

type handler struct {
	reader *api.Reader
	opts   Options
	pages  *template.Template
}

const (
	perPage     = 50
	eventsShown = 30 // of a timeline
)

// New makes the handler of the pages and of /static/.
func New(r *api.Reader, o Options) http.Handler {
	h := &handler{r, o, template.Must(template.New("").Funcs(template.FuncMap{
		"percent": percent, "sli": sli, "figure": figure, "outage": outage, "ago": ago,
		"path": path, "bar": bar, "plot": plot, "chart": chart, "until": until, "time": clock, "words": words, "second": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }, "count": count, "length": length, "fast": fast, "share": share, "span": span,
	}).ParseFS(files, "templates/*.html"))}
	mux := http.NewServeMux()
	mux.Handle("GET /static/", http.FileServerFS(files))
	mux.HandleFunc("GET /{$}", h.platform)
	for _, what := range []string{"owners", "entities"} {
		mux.HandleFunc("GET /"+what, func(w http.ResponseWriter, r *http.Request) { h.find(w, r, what) })
	}
	mux.HandleFunc("GET /owners/{kind}/{namespace}/{name}", h.owner)
	mux.HandleFunc("GET /entities/{kind}/{namespace}/{name}", h.entity)
	mux.HandleFunc("GET /problems", h.problems)
	if o.Check != nil {
		mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
			h.render(w, r, http.StatusOK, "login", "Sign in", map[string]any{"To": local(r.URL.Query().Get("to"))})
		})
		mux.HandleFunc("POST /login", h.login)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.fail(w, r, api.Error{Title: "Not found", Status: http.StatusNotFound, Detail: "there is no page " + r.URL.Path})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "same-origin")
		mux.ServeHTTP(w, r)
	})
}

type view struct {
	Page             string // name of its template
	Title, Version   string
	Simulated, Login bool
	Now              time.Time
	Notices          []string
	Data             any
}

func (h *handler) render(w http.ResponseWriter, r *http.Request, status int, page, title string, data any) {
	st := h.reader.State()
	v := view{Page: page, Title: title, Version: st.Version(), Simulated: st.Simulated(), Login: h.opts.Check != nil, Data: data}
	if page != "login" { // nothing of the platform is shown to who is not signed in
		s := h.reader.Snapshot(r.Context())
		v.Now, v.Notices = s.Time, st.Notices()
		if n := s.StoreNotice(); n != "" {
			v.Notices = append(v.Notices, n)
		}
	}
	var b bytes.Buffer
	if err := h.pages.ExecuteTemplate(&b, page, v); err != nil {
		http.Error(w, "render page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

func (h *handler) fail(w http.ResponseWriter, r *http.Request, e api.Error) {
	h.render(w, r, e.Status, "failure", e.Title, e)
}

// find leads from a full reference, as in ?ref=group:default/payments, to its page. Dashboards have only the reference.
func (h *handler) find(w http.ResponseWriter, r *http.Request, what string) {
	text, kind := r.URL.Query().Get("ref"), "component"
	if what == "owners" {
		kind = "group"
	}
	ref, err := catalog.ParseRef(text, kind)
	if err != nil {
		h.fail(w, r, api.Error{Title: "Bad reference", Status: http.StatusBadRequest, Detail: fmt.Sprintf("%q is no reference", text), Hint: "write one like " + kind + ":default/checkout"})
		return
	}
	http.Redirect(w, r, path(what, ref), http.StatusFound)
}

type pager struct {
	First, Last, Total int
	Previous, Next     string
}

func paginate[T any](r *http.Request, all []T) ([]T, pager) {
	n, _ := strconv.Atoi(r.URL.Query().Get("page"))
	n = min(max(n, 1), (len(all)+perPage-1)/perPage+1)
	start := min((n-1)*perPage, len(all))
	end := min(start+perPage, len(all))
	link := func(n int) string {
		q := r.URL.Query()
		q.Set("page", strconv.Itoa(n))
		return "?" + q.Encode()
	}
	p := pager{First: min(start+1, len(all)), Last: end, Total: len(all)}
	if n > 1 {
		p.Previous = link(n - 1)
	}
	if end < len(all) {
		p.Next = link(n + 1)
	}
	return all[start:end], p
}

func (h *handler) platform(w http.ResponseWriter, r *http.Request) {
	s := h.reader.Snapshot(r.Context())
	query := r.URL.Query().Get("q")
	owners, pages := paginate(r, s.FindOwners(query))
	firing, counts := []api.FiringAlert{}, map[api.Status]int{}
	for _, a := range s.Alerts() {
		if a.State == "firing" && a.Severity != "none" { // the watchdog always fires
			firing = append(firing, a)
		}
	}
	for _, o := range s.SLOs() {
		counts[o.Status]++
	}
	unowned := s.Unowned()
	h.render(w, r, http.StatusOK, "platform", "Platform", map[string]any{
		"Query": query, "Owners": owners, "Pages": pages, "Firing": firing[:min(20, len(firing))],
		"FiringCount": len(firing), "SLOs": len(s.SLOs()), "Breaching": counts[api.StatusBreaching], "NoData": counts[api.StatusNoData],
		"Unowned": unowned[:min(20, len(unowned))], "UnownedCount": len(unowned), "Problems": len(s.Issues(catalog.Ref{}, "")), "Sources": h.reader.State().Sources(), "OwnerCount": len(s.Owners()),
	})
}

func (h *handler) owner(w http.ResponseWriter, r *http.Request) {
	s, ref := h.reader.Snapshot(r.Context()), api.PathRef(r)
	o, ok := s.Owner(ref)
	if !ok {
		h.fail(w, r, s.NotFound("owner", ref))
		return
	}
	o.Delivery = s.OwnerDelivery(r.Context(), ref)
	slos := s.OwnerSLOs(ref)
	slices.SortStableFunc(slos, func(a, b api.SLO) int { return compareBudget(a.BudgetRemaining, b.BudgetRemaining) })
	slos, pages := paginate(r, slos)
	err := s.AddSeries(r.Context(), slos, time.Time{}, time.Time{}, 60)
	h.render(w, r, http.StatusOK, "owner", o.Title, map[string]any{"Owner": o, "SLOs": slos, "Pages": pages, "ChartErr": err})
}

// compareBudget puts what is worst first, and what has no data last.
func compareBudget(a, b api.Number) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return cmp.Compare(*a, *b)
}

func (h *handler) entity(w http.ResponseWriter, r *http.Request) {
	s, ref := h.reader.Snapshot(r.Context()), api.PathRef(r)
	e, ok := s.Entity(ref)
	if !ok {
		h.fail(w, r, s.NotFound("entity", ref))
		return
	}
	e.Delivery = s.EntityDelivery(r.Context(), ref)
	slos := s.EntitySLOs(ref)
	err := s.AddSeries(r.Context(), slos, time.Time{}, time.Time{}, api.MaxPoints)
	happened := s.Timeline(r.Context(), api.TimelineQuery{Ref: ref, Limit: eventsShown})
	h.render(w, r, http.StatusOK, "entity", e.Title, map[string]any{"Entity": e, "SLOs": slos, "ChartErr": err, "Timeline": happened})
}

func (h *handler) problems(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	owner, _ := catalog.ParseRef(q.Get("owner"), "group")
	list, pages := paginate(r, h.reader.Snapshot(r.Context()).Issues(owner, q.Get("severity")))
	h.render(w, r, http.StatusOK, "problems", "Problems", map[string]any{"List": list, "Pages": pages, "Owner": owner, "Severity": q.Get("severity")})
}

func (h *handler) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	token, to := strings.TrimSpace(r.PostFormValue("token")), local(r.PostFormValue("to"))
	if err := h.opts.Check(r.Context(), token); err != nil {
		h.render(w, r, http.StatusUnauthorized, "login", "Sign in", map[string]any{"To": to, "Error": err.Error()})
		return
	}
	http.SetCookie(w, &http.Cookie{Name: h.opts.Cookie, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil})
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// local gives a path on this server; anything that could lead elsewhere becomes "/".
func local(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n") {
		return "/"
	}
	return to
}

func path(what string, r catalog.Ref) string {
	return "/" + what + "/" + url.PathEscape(r.Kind) + "/" + url.PathEscape(r.Namespace) + "/" + url.PathEscape(r.Name)
}

func percent(n api.Number) string {
	if n == nil {
		return "no data"
	}
	return signed(strconv.FormatFloat(*n*100, 'f', 1, 64)) + " %"
}

// sli has digits enough to tell a target of three nines from what misses it.
func sli(n api.Number) string {
	if n == nil {
		return "no data"
	}
	return strconv.FormatFloat(*n*100, 'f', 4, 64) + " %"
}

func figure(n api.Number) string {
	if n == nil {
		return "–"
	}
	return strconv.FormatFloat(*n, 'f', 2, 64)
}

// outage writes minutes of a total outage in the unit that suits whole, which are minutes too.
func outage(n, whole api.Number) string {
	if n == nil || whole == nil {
		return "–"
	}
	unit, per := "min", 1.0
	switch {
	case *whole >= 2*24*60:
		unit, per = "d", 24*60
	case *whole >= 2*60:
		unit, per = "h", 60
	}
	return signed(strconv.FormatFloat(*n/per, 'f', 1, 64)) + " " + unit
}

// signed writes a minus sign where strconv writes a hyphen.
func signed(s string) string { return strings.Replace(s, "-", "−", 1) }

// words writes a name with underscores for people.
func words(s string) string { return strings.ReplaceAll(s, "_", " ") }

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// length writes seconds as a duration.
func length(n api.Number) string {
	if n == nil {
		return "–"
	}
	d := time.Duration(*n * float64(time.Second))
	if d >= time.Second {
		d = d.Round(time.Second)
	}
	return d.String()
}

// share writes a ratio in percent, where a missing one is nothing to worry about.
func share(n api.Number) string {
	if n == nil {
		return "–"
	}
	return percent(n)
}

// span writes seconds in the unit that suits them: the figure is a rough one.
func span(n api.Number) string {
	if n == nil {
		return "–"
	}
	switch v := *n; {
	case v >= 2*24*3600:
		return strconv.FormatFloat(v/24/3600, 'f', 1, 64) + " d"
	case v >= 2*3600:
		return strconv.FormatFloat(v/3600, 'f', 1, 64) + " h"
	default:
		return strconv.FormatFloat(v/60, 'f', 0, 64) + " min"
	}
}

// fast tells whether a burn rate spends more than the whole budget in one window.
func fast(n api.Number) bool { return n != nil && *n > 1 }

func clock(t *time.Time) string {
	if t == nil {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04")
}

// until says when an exclusion is.
func until(x api.Exclusion) string {
	const layout = "2006-01-02 15:04"
	if x.Repeat == "" {
		return x.From.Format(layout) + " to " + x.To.Format(layout)
	}
	zone, err := time.LoadLocation(x.Zone)
	if err != nil {
		zone = time.UTC
	}
	text := "Weekly, " + x.From.In(zone).Format("Mon 15:04") + " to " + x.To.In(zone).Format("Mon 15:04 ") + x.Zone + ", from " + x.From.In(zone).Format("2006-01-02")
	if x.Until != nil {
		text += " until " + x.Until.In(zone).Format("2006-01-02")
	}
	return text
}

func ago(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return max(now.Sub(t), 0).Round(time.Second).String() + " ago"
}

// bar draws the share of a budget that is left.
func bar(n api.Number) template.HTML {
	if n == nil {
		return ""
	}
	class, left := "ok", min(max(*n, 0), 1)
	if *n <= 0 {
		class, left = "bad", 1 // nothing is left: the whole bar warns
	} else if *n < 0.25 {
		class = "low"
	}
	return template.HTML(fmt.Sprintf(`<svg class="bar %s" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="8"/><rect class="fill" width="%.1f" height="8"/></svg>`, class, left*100))
}

// plot draws the budget that was left over time, with axes when it is large.
func plot(points []api.Point, large bool) template.HTML { return draw(points, large, nil, nil) }

// chart is the large plot of an objective, with what is excluded and when the objective was changed.
func chart(s api.SLO) template.HTML { return draw(s.Series, true, s.Excluded, s.Changes) }

// draw makes the SVG of plot and chart. Only numbers and names of fields go into it.
func draw(points []api.Point, large bool, excluded []api.Span, changes []api.Change) template.HTML {
	var xs, ys []float64
	low, high := 0.0, 1.0
	for _, p := range points {
		if p.Value != nil {
			xs, ys = append(xs, float64(p.Time.Unix())), append(ys, *p.Value)
			low, high = min(low, *p.Value), max(high, *p.Value)
		}
	}
	if len(xs) < 2 {
		return ""
	}
	step := (high - low) / 4
	if large {
		step = 0.25
		for (high-low)/step > 6 {
			step *= 2
		}
		low, high = math.Floor(low/step)*step, math.Ceil(high/step)*step
	}
	w, h, left, bottom, class := 120.0, 28.0, 2.0, 2.0, "spark"
	if large {
		w, h, left, bottom, class = 720, 220, 74, 30, "plot"
	}
	x := func(v float64) float64 { return left + (v-xs[0])/(xs[len(xs)-1]-xs[0])*(w-left-6) }
	top := 4.0
	if large {
		top = 16 // half a line of text, on small screens too
	}
	y := func(v float64) float64 { return top + (high-v)/(high-low)*(h-bottom-top-2) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="%s" viewBox="0 0 %g %g" role="img"><title>Error budget remaining: %.1f %% at the end, lowest %.1f %%</title>`, class, w, h, ys[len(ys)-1]*100, slices.Min(ys)*100)
	first, last := time.Unix(int64(xs[0]), 0), time.Unix(int64(xs[len(xs)-1]), 0)
	for _, e := range excluded {
		if e.To.After(first) && e.From.Before(last) {
			begin, end := x(max(float64(e.From.Unix()), xs[0])), x(min(float64(e.To.Unix()), xs[len(xs)-1]))
			fmt.Fprintf(&b, `<rect class="excluded" x="%.1f" y="%g" width="%.1f" height="%.1f"><title>Does not count: %s to %s UTC</title></rect>`,
				begin, top, max(end-begin, 2), h-bottom-top-2, e.From.UTC().Format("2006-01-02 15:04"), e.To.UTC().Format("2006-01-02 15:04"))
		}
	}
	if large {
		for v := low; v <= high+step/2; v += step {
			fmt.Fprintf(&b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text x="%g" y="%.1f" text-anchor="end">%s %%</text>`, left, w-6, y(v), y(v), left-6, y(v)+4, signed(strconv.FormatFloat(v*100, 'f', 0, 64)))
		}
		for i := range 5 {
			t := time.Unix(int64(xs[0]+(xs[len(xs)-1]-xs[0])*float64(i)/4), 0).UTC()
			anchor := [...]string{"start", "middle", "middle", "middle", "end"}[i]
			fmt.Fprintf(&b, `<text x="%.1f" y="%g" text-anchor="%s">%s</text>`, x(float64(t.Unix())), h-8, anchor, t.Format("Jan 2"))
		}
	}
	fmt.Fprintf(&b, `<line class="zero" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><polyline points="`, left, w-6, y(0), y(0))
	for i := range xs {
		fmt.Fprintf(&b, "%.1f,%.1f ", x(xs[i]), y(ys[i]))
	}
	b.WriteString(`"/>`)
	for _, c := range changes {
		if c.Time.After(first) && !c.Time.After(last) {
			at := x(float64(c.Time.Unix()))
			fmt.Fprintf(&b, `<line class="change" x1="%.1f" x2="%.1f" y1="%g" y2="%g"><title>%s changed on %s UTC</title></line>`,
				at, at, top, h-bottom-2, template.HTMLEscapeString(words(c.Field)), c.Time.UTC().Format("2006-01-02 15:04"))
		}
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}
