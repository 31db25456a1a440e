package alertmanager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/upstream"
)

// backup is added to the file's name while a new one is not known to be loaded. What is there holds the old file.
const backup = ".sightline-old"

// A Target is an alertmanager.yml, and the Alertmanager that loads it. Make one for each plan; it is not for concurrent
// use.
type Target struct {
	file   string
	client *upstream.Client // nil: nobody is told
	wanted []plan.Artifact
	read   []byte // as Held found it
}

var _ plan.Target = (*Target)(nil)

// New makes a target of a plan. The client, whose base URL is Alertmanager's own, may be nil: then the file is written and
// not loaded. It should try once, for Alertmanager refuses with 500.
func New(file string, c *upstream.Client, p *plan.Plan) *Target {
	t := &Target{file: file, client: c}
	t.wanted = p.For(t)
	return t
}

// Name says which file is meant.
func (t *Target) Name() string { return "alertmanager " + t.file }

// Accepts takes the configuration of Alertmanager.
func (t *Target) Accepts(k plan.Kind) bool { return k == plan.KindAlertmanager }

// Held gives what is Sightline's in the file, in the form of the plan's artifact. A file that cannot take Sightline's part,
// or would send alerts to the wrong receiver, is an error.
func (t *Target) Held(context.Context) ([]plan.Artifact, error) {
	file, err := t.load()
	if err != nil {
		return nil, err
	}
	t.read = file
	plain, err := Strip(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.file, err)
	}
	a := plan.Artifact{Kind: plan.KindAlertmanager, Path: "alertmanager/alertmanager.yml"}
	var wanted []byte
	if len(t.wanted) > 0 {
		merged, err := t.merged(file, t.wanted[0].Body)
		if err != nil {
			return nil, err
		}
		a, wanted = t.wanted[0], t.wanted[0].Body
		if bytes.Equal(merged, file) && !t.pending() {
			return []plan.Artifact{a}, nil
		}
	}
	if bytes.Equal(plain, file) {
		return nil, nil
	}
	if a.Body, err = generatedOf(file, wanted); err != nil {
		return nil, fmt.Errorf("%s: %w", t.file, err)
	}
	if t.pending() {
		a.Body = append(a.Body, "# Alertmanager is not known to have loaded this.\n"...)
	} else if bytes.Equal(a.Body, wanted) {
		a.Body = append(a.Body, "# Somebody changed the spelling of this.\n"...)
	}
	return []plan.Artifact{a}, nil
}

func (t *Target) load() ([]byte, error) {
	file, err := os.ReadFile(t.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse("write an alertmanager.yml with a route, a receiver and the place for Sightline's routes: "+markerHint, "%s does not exist", t.file)
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration of Alertmanager: %w", err)
	}
	return file, nil
}

func (t *Target) merged(file, generated []byte) ([]byte, error) {
	merged, err := Merge(file, generated)
	if err == nil {
		err = Prove(file, generated, merged)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.file, err)
	}
	return merged, nil
}

// pending tells whether an earlier run ended between writing the file and hearing that it is loaded.
func (t *Target) pending() bool {
	_, err := os.Stat(t.file + backup)
	return err == nil
}

// Put merges the artifact into the file, proves the result, replaces the file atomically and has Alertmanager load it.
// Where that fails the old file is put back.
func (t *Target) Put(ctx context.Context, a plan.Artifact) error {
	file, err := t.unchanged()
	if err != nil {
		return err
	}
	merged, err := t.merged(file, a.Body)
	if err != nil {
		return err
	}
	return t.swap(ctx, file, merged)
}

// Remove takes Sightline's part out of the file, and has Alertmanager load it.
func (t *Target) Remove(ctx context.Context, _ plan.Artifact) error {
	file, err := t.unchanged()
	if err != nil {
		return err
	}
	plain, err := Strip(file)
	if err != nil {
		return fmt.Errorf("%s: %w", t.file, err)
	}
	return t.swap(ctx, file, plain)
}

func (t *Target) unchanged() ([]byte, error) {
	file, err := t.load()
	if err == nil && t.read != nil && !bytes.Equal(file, t.read) {
		err = fmt.Errorf("%s: %w", t.file, plan.ErrConflict)
	}
	return file, err
}

func (t *Target) swap(ctx context.Context, old, now []byte) error {
	if t.client == nil {
		t.read = now
		return replace(t.file, t.file, now)
	}
	if t.pending() {
		last, err := os.ReadFile(t.file + backup)
		if err != nil {
			return fmt.Errorf("read the last file that Alertmanager loaded: %w", err)
		}
		old = last
	} else if err := replace(t.file+backup, t.file, old); err != nil {
		return err
	}
	if err := replace(t.file, t.file, now); err != nil {
		return err
	}
	t.read = now
	if err := t.reload(ctx); err != nil {
		err = fmt.Errorf("the new file was not loaded, so the old one is back: %w", err)
		if back := replace(t.file, t.file, old); back != nil {
			return errors.Join(err, back)
		}
		t.read = old
		if status := (*upstream.StatusError)(nil); errors.As(err, &status) { // it may have loaded a part
			if again := t.reload(context.WithoutCancel(ctx)); again != nil {
				return errors.Join(err, fmt.Errorf("nor the old one: %w", again), os.Remove(t.file+backup))
			}
		}
		return errors.Join(err, os.Remove(t.file+backup))
	}
	return os.Remove(t.file + backup)
}

func (t *Target) reload(ctx context.Context) error {
	_, err := t.client.Do(ctx, http.MethodPost, "/-/reload", nil, nil)
	return err
}

// replace writes a file whole or not at all, with the permissions of another one. A symbolic link stays one.
func replace(name, like string, body []byte) error {
	if at, err := filepath.EvalSymlinks(name); err == nil {
		name = at
	}
	info, err := os.Stat(like)
	if err != nil {
		return fmt.Errorf("write the configuration of Alertmanager: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("write the configuration of Alertmanager: %w", err)
	}
	_, err = f.Write(body)
	if err == nil {
		err = f.Chmod(info.Mode().Perm())
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write the configuration of Alertmanager: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// generatedOf is the inverse of Merge: what is Sightline's in a file as a generated configuration would say it. What it
// says globally is taken from the wanted one, which may be nil.
func generatedOf(file, wanted []byte) ([]byte, error) {
	top, err := readTop(file)
	if err != nil {
		return nil, err
	}
	global := mapping("", nil)
	global.Content, global.Style = nil, yaml.FlowStyle
	if wanted != nil {
		meant, err := readTop(wanted)
		if err != nil {
			return nil, err
		}
		if _, g := value(meant, "global"); g != nil {
			global = g
		}
	}
	out := mapping("global", global)
	root, below := list(), list()
	root.Kind, root.Tag = yaml.MappingNode, "!!map"
	for _, r := range markerRoutes(top) {
		if isWatchdog(r) {
			below.Content = append(below.Content, r)
			continue
		}
		for i := 0; i+1 < len(r.Content); i += 2 {
			switch key, v := r.Content[i], r.Content[i+1]; key.Value {
			case "matchers":
			case "routes":
				below.Content = append(below.Content, v.Content...)
			default:
				root.Content = append(root.Content, key, v)
			}
		}
	}
	root.Content = append(root.Content, mapping("routes", below).Content...)
	sendNowhere(root)
	out.Content = append(out.Content, mapping("route", root).Content...)
	for _, key := range []string{"inhibit_rules", "time_intervals", "receivers"} {
		_, all := value(top, key)
		mine := list()
		for _, n := range items(all) {
			if key == "inhibit_rules" && isBurnRule(n) || strings.HasPrefix(text(n, "name"), prefix) {
				mine.Content = append(mine.Content, n)
			}
		}
		if key == "receivers" {
			for _, r := range mine.Content {
				disown(r, "slack_configs", "api_url_file", text(global, "slack_api_url_file"))
				disown(r, "email_configs", "smarthost", text(global, "smtp_smarthost"))
				disown(r, "email_configs", "from", text(global, "smtp_from"))
			}
			if text(root, "receiver") == unrouted {
				mine.Content = append(mine.Content, mapping("name", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: unrouted}))
				slices.SortFunc(mine.Content, func(a, b *yaml.Node) int { return strings.Compare(text(a, "name"), text(b, "name")) })
			}
		}
		if len(mine.Content) > 0 {
			out.Content = append(out.Content, mapping(key, mine).Content...)
		}
	}
	forget(out)
	body, err := yaml.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("write what is there: %w", err)
	}
	return append([]byte("# Generated by Sightline from the software catalog; changes are overwritten.\n"), body...), nil
}

// markerRoutes are the routes of the route whose receiver is Fallback.
func markerRoutes(n *yaml.Node) []*yaml.Node {
	_, root := value(n, "route")
	var found []*yaml.Node
	var walk func(r *yaml.Node, depth int)
	walk = func(r *yaml.Node, depth int) {
		_, below := value(r, "routes")
		if text(r, "receiver") == Fallback {
			found = items(below)
			return
		}
		for _, c := range items(below) {
			if depth < 100 && found == nil {
				walk(c, depth+1)
			}
		}
	}
	walk(root, 0)
	return found
}

func sendNowhere(route *yaml.Node) {
	for i := 0; i+1 < len(route.Content); i += 2 {
		switch key, v := route.Content[i], route.Content[i+1]; {
		case key.Value == "receiver" && v.Value == Fallback:
			v.Value = unrouted
		case key.Value == "routes":
			for _, r := range items(v) {
				sendNowhere(r)
			}
		}
	}
}

// isBurnRule tells whether a rule of inhibition is Sightline's.
func isBurnRule(n *yaml.Node) bool {
	_, m := value(n, "source_matchers")
	return slices.ContainsFunc(items(m), func(n *yaml.Node) bool { return n.Value == burnMatcher && n.Style&yaml.SingleQuotedStyle != 0 }) && dropBurn(n)
}

// dropBurn takes what Merge added out of a rule.
func dropBurn(n *yaml.Node) bool {
	for _, side := range []string{"source_matchers", "target_matchers"} {
		if _, m := value(n, side); m != nil {
			m.Content = slices.DeleteFunc(m.Content, func(n *yaml.Node) bool { return n.Value == burnMatcher })
		}
	}
	return true
}

// disown takes a key out of a receiver's configurations of a kind where it has the given value.
func disown(receiver *yaml.Node, kind, key, val string) {
	_, configs := value(receiver, kind)
	for _, c := range items(configs) {
		for i := 0; i+1 < len(c.Content); i += 2 {
			if val != "" && c.Content[i].Value == key && c.Content[i+1].Value == val {
				c.Content = slices.Delete(c.Content, i, i+2)
				break
			}
		}
	}
}

// forget takes comments out of a tree.
func forget(n *yaml.Node) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	for _, c := range n.Content {
		forget(c)
	}
}
