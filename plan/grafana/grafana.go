// Package grafana applies a plan's dashboards through Grafana's HTTP API, which is the same from Grafana 9 to 13.
//
// Every owner has a folder of its own, whose uid is made from the owner's reference; a team of the owner's name may edit
// it. What is Sightline's is known by two marks: a board's uid begins with "sl-" and it has the tag "sightline"; a folder's
// uid is that of the owner in its title. Nothing else is read whole, changed or removed, and no save overwrites: each says
// which version it replaces, so that a change made meanwhile is an error and not lost.
package grafana

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	httptransport "github.com/go-openapi/runtime/client"
	"github.com/go-openapi/strfmt"
	"github.com/grafana/grafana-openapi-client-go/client"
	"golang.org/x/sync/errgroup"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/upstream"
)

// Options say where Grafana is.
type Options struct {
	URL       string        // what stands before /api
	TokenFile string        // token of a service account, read at each call
	CAFile    string        // PEM of an authority to trust beside the system's
	Timeout   time.Duration // of one call; default 30s
}

// The marks of a board that is Sightline's.
const (
	markTag    = "sightline"
	markPrefix = "sl-"
)

// parallel is the number of boards that are read at a time.
const parallel = 4

// A Target is one Grafana organisation as a plan.Target. It is made for one plan, which it needs to tell whether a stored
// board is equal to the planned one: Grafana does not keep the bytes.
type Target struct {
	api     *client.GrafanaHTTPAPI
	shown   string
	first   time.Duration     // wait before the second try of a call; doubles
	page    int64             // of a search
	planned map[string]*board // by uid
	homes   map[string]bool   // uids of the planned folders
	notes   map[string]bool

	held    map[string]*stored // what Held found, by uid of a board
	paths   map[string]string  // uid of a board or folder by the path that Held gave
	folders map[string]bool    // that exist
	granted map[string]bool    // folders whose permissions were seen to
	left    map[string]int     // boards of Sightline's in a folder
}

var _ plan.Target = (*Target)(nil)

// New makes a target for the dashboards of a plan; it asks Grafana nothing yet.
func New(o Options, p *plan.Plan) (*Target, error) {
	u, err := url.Parse(strings.TrimRight(o.URL, "/"))
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("the URL of Grafana is not one that begins with https://")
	case u.User != nil:
		return nil, fmt.Errorf("the URL of Grafana at %s holds a user or password: use token_file", u.Host)
	}
	h, err := upstream.NewHTTPClient(upstream.Options{TokenFile: o.TokenFile, CAFile: o.CAFile, Timeout: o.Timeout})
	if err != nil {
		return nil, fmt.Errorf("reach Grafana at %s: %w", u.Host, err)
	}
	h.Transport = answers{h.Transport}
	transport := httptransport.NewWithClient(u.Host, u.Path+"/api", []string{u.Scheme}, h)
	transport.SetDebug(false) // an environment variable named DEBUG would dump every call
	t := &Target{
		api:   client.New(transport, client.DefaultTransportConfig(), strfmt.Default),
		shown: u.Scheme + "://" + u.Host + u.Path, first: time.Second, page: maxPage,
		planned: map[string]*board{}, homes: map[string]bool{}, notes: map[string]bool{},
	}
	t.forget()
	for _, a := range p.For(t) {
		b, err := readBoard(a)
		if err != nil {
			return nil, err
		}
		if other := t.planned[b.uid]; other != nil {
			return nil, fmt.Errorf("%s and %s have the uid %s", other.Path, a.Path, b.uid)
		}
		t.planned[b.uid], t.homes[b.folder] = b, true
	}
	return t, nil
}

func (t *Target) forget() {
	t.held, t.paths, t.left = map[string]*stored{}, map[string]string{}, map[string]int{}
	t.folders, t.granted = map[string]bool{}, map[string]bool{}
}

// Name is "grafana" and the address.
func (t *Target) Name() string { return "grafana " + t.shown }

// Accepts tells that Grafana takes dashboards.
func (t *Target) Accepts(k plan.Kind) bool { return k == plan.KindDashboard }

// Notes are what was left undone because the token does not permit it, sorted.
func (t *Target) Notes() []string { return slices.Sorted(maps.Keys(t.notes)) }

// A board is a planned dashboard.
type board struct {
	plan.Artifact
	uid, title, folder string
	model              map[string]any
}

func readBoard(a plan.Artifact) (*board, error) {
	b := &board{Artifact: a, folder: folderUID(a.Owner)}
	if err := json.Unmarshal(a.Body, &b.model); err != nil {
		return nil, fmt.Errorf("read %s: %w", a.Path, err)
	}
	b.uid, _ = b.model["uid"].(string)
	b.title, _ = b.model["title"].(string)
	if !marked(b.uid, tags(b.model)) {
		return nil, fmt.Errorf("%s has no uid that begins with %q or no tag %q", a.Path, markPrefix, markTag)
	}
	return b, nil
}

func marked(uid string, tags []string) bool {
	return strings.HasPrefix(uid, markPrefix) && slices.Contains(tags, markTag)
}

func tags(model map[string]any) []string {
	list, _ := model["tags"].([]any)
	var out []string
	for _, v := range list {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// Held gives the boards of Sightline's, and the empty folders that an interrupted Remove left behind. It makes one call
// for each 5,000 boards and folders, and one for each board. Boards that Grafana loads from files are left to whoever
// provisions them.
func (t *Target) Held(ctx context.Context) ([]plan.Artifact, error) {
	t.forget()
	hits, err := t.search(ctx, query{kind: "dash-db", tag: markTag})
	if err != nil {
		return nil, err
	}
	folders, err := t.search(ctx, query{kind: "dash-folder"})
	if err != nil {
		return nil, err
	}
	owners := map[string]catalog.Ref{}
	var ours []string
	for _, f := range folders {
		t.folders[f.UID] = true
		if owner, ok := folderOwner(f.UID, f.Title); ok {
			owners[f.UID] = owner
			ours = append(ours, f.UID)
		}
	}
	var mu sync.Mutex
	each, ectx := errgroup.WithContext(ctx)
	each.SetLimit(parallel)
	for _, h := range hits {
		if !marked(h.UID, h.Tags) {
			continue
		}
		each.Go(func() error {
			s, err := t.get(ectx, h.UID)
			if err != nil || s == nil || s.provisioned || !s.marked() {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			t.held[s.uid] = s
			return nil
		})
	}
	if err := each.Wait(); err != nil {
		return nil, err
	}
	var out []plan.Artifact
	for _, uid := range slices.Sorted(maps.Keys(t.held)) {
		s := t.held[uid]
		t.left[s.folder]++
		a := plan.Artifact{Kind: plan.KindDashboard, Path: "dashboards/" + s.title() + " [" + uid + "]", Owner: owners[s.folder]}
		if b := t.planned[uid]; b != nil {
			a.Path, a.Owner, a.Body = b.Path, b.Owner, s.like(b)
		} else {
			a.Body = s.like(nil)
		}
		t.paths[a.Path] = uid
		out = append(out, a)
	}
	for _, uid := range ours {
		if t.homes[uid] || t.left[uid] > 0 {
			continue
		}
		empty, err := t.empty(ctx, uid)
		if err != nil {
			return nil, err
		}
		if empty {
			a := plan.Artifact{Kind: plan.KindDashboard, Path: "dashboards/empty folder [" + uid + "]", Owner: owners[uid]}
			t.paths[a.Path] = uid
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b plan.Artifact) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// Put saves a board in the folder of its owner, unless it is there already.
func (t *Target) Put(ctx context.Context, a plan.Artifact) error {
	b, err := readBoard(a)
	if err != nil {
		return err
	}
	if err := t.home(ctx, b.Owner); err != nil {
		return err
	}
	was := t.held[b.uid]
	if was != nil && was.equal(b) {
		return nil
	}
	if was != nil && was.newer {
		return fmt.Errorf("save %s: the board is stored in Grafana's schema v2, of which this would lose parts: %w", b.uid, plan.ErrForeign)
	}
	err = t.save(ctx, b, was)
	if failed := (*Error)(nil); errors.As(err, &failed) && failed.Code == 412 && failed.Status == "name-exists" {
		if err = t.makeRoom(ctx, b); err == nil {
			err = t.save(ctx, b, was)
		}
	}
	if err != nil {
		return t.refused(ctx, b, err)
	}
	if was == nil {
		t.left[b.folder]++
		return nil
	}
	if was.folder != b.folder {
		t.left[b.folder]++
		return t.leave(ctx, was.folder)
	}
	return nil
}

// refused finds out what a refusal to save means.
func (t *Target) refused(ctx context.Context, b *board, err error) error {
	var failed *Error
	switch {
	case !errors.As(err, &failed):
		return err
	case strings.Contains(failed.Message, "provisioned"):
		return fmt.Errorf("save %s: Grafana loads it from a file: %w", b.uid, plan.ErrForeign)
	case failed.Code != 412 || failed.Status == "name-exists":
		return err
	}
	now, readErr := t.get(ctx, b.uid)
	switch {
	case readErr != nil:
		return readErr
	case now == nil:
		return fmt.Errorf("save %s: %w", b.uid, plan.ErrConflict)
	case now.provisioned:
		return fmt.Errorf("save %s: Grafana loads it from a file: %w", b.uid, plan.ErrForeign)
	case !now.marked():
		return fmt.Errorf("save %s: the board of this uid has no tag %q: %w", b.uid, markTag, plan.ErrForeign)
	case now.equal(b):
		return nil // another apply was faster
	}
	return fmt.Errorf("save %s: %w", b.uid, plan.ErrConflict)
}

// makeRoom is for a title that another board in the folder has. A board of ours that is no longer planned goes.
func (t *Target) makeRoom(ctx context.Context, b *board) error {
	hits, err := t.search(ctx, query{kind: "dash-db", folder: b.folder})
	if err != nil {
		return err
	}
	for _, h := range hits {
		if h.FolderUID != b.folder || !strings.EqualFold(h.Title, b.title) || h.UID == b.uid {
			continue
		}
		if t.planned[h.UID] != nil || !marked(h.UID, h.Tags) {
			return fmt.Errorf("save %s: the board %s has the title %q in the same folder: %w", b.uid, h.UID, b.title, plan.ErrForeign)
		}
		return t.remove(ctx, h.UID)
	}
	return fmt.Errorf("save %s: another board has the title %q in the same folder: %w", b.uid, b.title, plan.ErrForeign)
}

// Remove deletes a board, and then its folder when that is Sightline's and empty; or an empty folder.
func (t *Target) Remove(ctx context.Context, a plan.Artifact) error {
	uid, ok := t.paths[a.Path]
	if !ok {
		return fmt.Errorf("remove %s: nothing like it was read", a.Path)
	}
	s := t.held[uid]
	if s == nil {
		return t.removeFolder(ctx, uid)
	}
	if err := t.remove(ctx, uid); err != nil {
		return err
	}
	return t.leave(ctx, s.folder)
}

// leave counts a board of ours less in a folder, and removes the folder that nothing planned needs.
func (t *Target) leave(ctx context.Context, folder string) error {
	if t.left[folder]--; t.left[folder] > 0 || t.homes[folder] {
		return nil
	}
	return t.removeFolder(ctx, folder)
}

// remove deletes a board that is still ours and still as it was read.
func (t *Target) remove(ctx context.Context, uid string) error {
	now, err := t.get(ctx, uid)
	switch was := t.held[uid]; {
	case err != nil || now == nil:
		return err
	case !now.marked() || now.provisioned:
		return fmt.Errorf("remove %s: %w", uid, plan.ErrForeign)
	case was != nil && was.version != now.version:
		return fmt.Errorf("remove %s: %w", uid, plan.ErrConflict)
	}
	return t.delete(ctx, uid)
}
