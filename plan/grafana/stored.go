package grafana

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/grafana/grafana-openapi-client-go/client/dashboards"
	"github.com/grafana/grafana-openapi-client-go/client/search"
	"github.com/grafana/grafana-openapi-client-go/models"
)

// maxPage is the most that Grafana's search gives at once.
const maxPage = 5000

// A query is what the search looks for; empty parts do not count. Grafana before 10 ignores the folder.
type query struct{ kind, tag, folder string }

func (t *Target) search(ctx context.Context, q query) (models.HitList, error) {
	var out models.HitList
	seen := map[string]bool{}
	for page := int64(1); ; page++ {
		params := search.NewSearchParamsWithContext(ctx).WithLimit(&t.page).WithPage(&page)
		if q.kind != "" {
			params.SetType(&q.kind)
		}
		if q.tag != "" {
			params.SetTag([]string{q.tag})
		}
		if q.folder != "" {
			params.SetFolderUIDs([]string{q.folder})
		}
		got, err := call(ctx, t, func() (*search.SearchOK, error) { return t.api.Search.Search(params) })
		if err != nil {
			return nil, fmt.Errorf("search: %w", err)
		}
		for _, h := range got.Payload {
			if !seen[h.UID] { // pages move while others save
				seen[h.UID] = true
				out = append(out, h)
			}
		}
		if int64(len(got.Payload)) < t.page {
			return out, nil
		}
	}
}

// A stored is a board as Grafana has it.
type stored struct {
	uid, folder, folderTitle string
	version                  int64
	provisioned              bool
	newer                    bool // schema v2
	model                    map[string]any
}

// get reads a board; nil when there is none.
func (t *Target) get(ctx context.Context, uid string) (*stored, error) {
	got, err := call(ctx, t, func() (*dashboards.GetDashboardByUIDOK, error) {
		return t.api.Dashboards.GetDashboardByUIDWithParams(dashboards.NewGetDashboardByUIDParamsWithContext(ctx).WithUID(uid))
	})
	switch {
	case isCode(err, 404):
		return nil, nil
	case isCode(err, 406): // what Grafana says of a board that only schema v2 can hold
		return &stored{uid: uid, newer: true}, nil
	case err != nil:
		return nil, fmt.Errorf("read the board %s: %w", uid, err)
	}
	s := &stored{uid: uid}
	if m := got.Payload.Meta; m != nil {
		s.folder, s.folderTitle, s.version, s.provisioned = m.FolderUID, m.FolderTitle, m.Version, m.Provisioned
		s.newer = strings.HasPrefix(m.APIVersion, "v2")
	}
	body, err := json.Marshal(got.Payload.Dashboard)
	if err == nil {
		err = json.Unmarshal(body, &s.model) // once more, so that numbers are float64
	}
	if err != nil {
		return nil, fmt.Errorf("read the board %s: %w", uid, err)
	}
	_, elements := s.model["elements"]
	s.newer = s.newer || elements
	delete(s.model, "id")
	delete(s.model, "version")
	return s, nil
}

// marked: the mark of a board that cannot be read is what the search said.
func (s *stored) marked() bool { return s.model == nil || marked(s.uid, tags(s.model)) }

func (s *stored) title() string {
	title, _ := s.model["title"].(string)
	return title
}

// equal tells whether saving the planned board would change nothing. A newer schema version alone is Grafana's own
// migration, which it would make again.
func (s *stored) equal(b *board) bool {
	if s.newer || s.folder != b.folder {
		return false
	}
	have, _ := s.model["schemaVersion"].(float64)
	want, _ := b.model["schemaVersion"].(float64)
	if have > want {
		model := maps.Clone(s.model)
		model["schemaVersion"] = b.model["schemaVersion"]
		return reflect.DeepEqual(model, b.model)
	}
	return reflect.DeepEqual(s.model, b.model)
}

// like writes the stored board so that it compares well with the planned one: with the same bytes when they are equal, else
// with its keys in the same order. A board in the wrong folder says so.
func (s *stored) like(b *board) []byte {
	if b != nil && s.equal(b) {
		return b.Body
	}
	var out bytes.Buffer
	if s.newer {
		out.WriteString("stored in Grafana's schema v2\n")
	}
	if b != nil && s.folder != b.folder {
		fmt.Fprintf(&out, "in the folder %q (%s)\n", s.folderTitle, s.folder)
	}
	var order keyOrder
	if b != nil {
		order = readOrder(json.NewDecoder(bytes.NewReader(b.Body)))
	}
	order.write(&out, s.model, "\n")
	out.WriteByte('\n')
	return out.Bytes()
}

// save creates or replaces a board; was is the one that it replaces.
func (t *Target) save(ctx context.Context, b *board, was *stored) error {
	model := maps.Clone(b.model)
	if was != nil {
		model["version"] = was.version
	}
	_, err := call(ctx, t, func() (*dashboards.PostDashboardOK, error) {
		return t.api.Dashboards.PostDashboardWithParams(dashboards.NewPostDashboardParamsWithContext(ctx).WithBody(
			&models.SaveDashboardCommand{Dashboard: model, FolderUID: b.folder, Message: "sightline apply"}))
	})
	if err != nil {
		return fmt.Errorf("save the board %s: %w", b.uid, err)
	}
	return nil
}

func (t *Target) delete(ctx context.Context, uid string) error {
	_, err := call(ctx, t, func() (*dashboards.DeleteDashboardByUIDOK, error) {
		return t.api.Dashboards.DeleteDashboardByUIDWithParams(dashboards.NewDeleteDashboardByUIDParamsWithContext(ctx).WithUID(uid))
	})
	if err != nil && !isCode(err, 404) {
		return fmt.Errorf("remove the board %s: %w", uid, err)
	}
	return nil
}

func ptr[T any](v T) *T { return &v }

// A keyOrder is the order of the keys of a JSON value's objects; the zero one is alphabetical.
type keyOrder struct {
	keys  []string
	kids  map[string]keyOrder
	items []keyOrder
}

func readOrder(dec *json.Decoder) keyOrder {
	var o keyOrder
	tok, err := dec.Token()
	switch {
	case err != nil:
	case tok == json.Delim('{'):
		o.kids = map[string]keyOrder{}
		for dec.More() {
			key, _ := dec.Token()
			k, _ := key.(string)
			o.keys = append(o.keys, k)
			o.kids[k] = readOrder(dec)
		}
		dec.Token()
	case tok == json.Delim('['):
		for dec.More() {
			o.items = append(o.items, readOrder(dec))
		}
		dec.Token()
	}
	return o
}

// write is the value as json.Encoder indents it with one blank; nl is a line break and the indent.
func (o keyOrder) write(out *bytes.Buffer, v any, nl string) {
	in := nl + " "
	switch v := v.(type) {
	case map[string]any:
		keys := slices.DeleteFunc(slices.Clone(o.keys), func(k string) bool { _, ok := v[k]; return !ok })
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if _, known := o.kids[k]; !known {
				keys = append(keys, k)
			}
		}
		for i, k := range keys {
			out.WriteString(map[bool]string{true: "{", false: ","}[i == 0] + in)
			scalar(out, k)
			out.WriteString(": ")
			o.kids[k].write(out, v[k], in)
		}
		out.WriteString(map[bool]string{true: "{}", false: nl + "}"}[len(keys) == 0])
	case []any:
		for i, item := range v {
			var of keyOrder
			if i < len(o.items) {
				of = o.items[i]
			}
			out.WriteString(map[bool]string{true: "[", false: ","}[i == 0] + in)
			of.write(out, item, in)
		}
		out.WriteString(map[bool]string{true: "[]", false: nl + "]"}[len(v) == 0])
	default:
		scalar(out, v)
	}
}

func scalar(out *bytes.Buffer, v any) {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) == nil { // what JSON was read from can be written
		out.Truncate(out.Len() - 1)
	}
}
