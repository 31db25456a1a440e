package changes

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/slo"
)

func objective(t testing.TB, name string, change ...func(*slo.Objective)) slo.Objective {
	t.Helper()
	o := slo.Objective{
		Entity: catalog.NewRef("component", "", name), Owner: catalog.NewRef("group", "", "payments"), Indicator: "availability", Target: target(t, "99.9"),
		Window: slo.Window{Days: 30}, ErrorQuery: `sum(rate(bad[$window]))`, TotalQuery: `sum(rate(all[$window]))`,
	}
	for _, c := range change {
		c(&o)
	}
	return o
}

func target(t testing.TB, percent string) slo.Target {
	t.Helper()
	v, err := slo.ParseTarget(percent)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func opened(t *testing.T, path string) *History {
	t.Helper()
	h, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func at(minute int) time.Time {
	return time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC).Add(time.Duration(minute) * time.Minute)
}

func TestOtherMembersOfACompositeAreAChange(t *testing.T) {
	of := func(worst bool, members ...slo.CompositeMember) slo.Objective {
		return objective(t, "shop", func(o *slo.Objective) {
			o.ErrorQuery, o.TotalQuery, o.Composite = "", "", &slo.Composite{WorstOf: worst, Members: members}
		})
	}
	checkout, heavy := slo.CompositeMember{ID: "checkout-availability", Weight: "1"}, slo.CompositeMember{ID: "checkout-availability", Weight: "3"}
	ledger := slo.CompositeMember{ID: "ledger-availability", Weight: "1"}
	path := filepath.Join(t.TempDir(), "objectives.db")
	for minute, o := range []slo.Objective{of(false, checkout), of(false, checkout), of(false, heavy, ledger), of(true, checkout, ledger)} {
		h := opened(t, path) // as after a restart
		if err := h.Note([]slo.Objective{o}, at(minute)); err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	change := func(minute int, from, to string) Change {
		return Change{at(minute), "component.default.shop-availability", "component:default/shop", "availability", "members", from, to}
	}
	want := []Change{
		change(2, "weighted checkout-availability", "weighted 3*checkout-availability, ledger-availability"),
		change(3, "weighted 3*checkout-availability, ledger-availability", "worst-of checkout-availability, ledger-availability"),
	}
	if d := cmp.Diff(want, opened(t, path).Of("component.default.shop-availability")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestEachChangeIsKeptOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "objectives.db")
	checkout, id := objective(t, "checkout"), "component.default.checkout-availability"
	changed := objective(t, "checkout", func(o *slo.Objective) {
		o.Target, o.Window.Days, o.TotalQuery, o.Owner = target(t, "99.5"), 28, `sum(rate(all{job="a"}[$window]))`, catalog.NewRef("group", "", "shop")
	})
	ledger := objective(t, "ledger")
	readings := [][]slo.Objective{{checkout}, {checkout}, {changed}, {changed}, {changed, ledger}, {ledger}, {ledger}, {changed, ledger}}
	change := func(minute int, id, entity, field, from, to string) Change {
		return Change{at(minute), id, entity, "availability", field, from, to}
	}
	const entity = "component:default/checkout"
	want := []Change{
		change(2, id, entity, "target", "99.9", "99.5"),
		change(2, id, entity, "window", "30d", "28d"),
		change(2, id, entity, "total_query", `sum(rate(all[$window]))`, `sum(rate(all{job="a"}[$window]))`),
		change(2, id, entity, "owner", "group:default/payments", "group:default/shop"),
		change(5, id, entity, "objective", "99.5", ""),
		change(7, id, entity, "objective", "", "99.5"),
	}
	began := []Change{change(4, "component.default.ledger-availability", "component:default/ledger", "objective", "", "99.9")}
	for name, again := range map[string]bool{"in one process": false, "with a restart before each reading": true} {
		t.Run(name, func(t *testing.T) {
			path := path + strconv.FormatBool(again)
			h := opened(t, path)
			for minute, objectives := range readings {
				if again {
					if err := h.Close(); err != nil {
						t.Fatal(err)
					}
					h = opened(t, path)
				}
				if err := h.Note(objectives, at(minute)); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(want, h.Of(id)); d != "" {
				t.Errorf("changes of checkout (-want +got):\n%s", d)
			}
			if d := cmp.Diff(began, h.Of("component.default.ledger-availability")); d != "" {
				t.Errorf("changes of ledger (-want +got):\n%s", d)
			}
			latest := append([]Change{want[5]}, want[3], want[0], want[2], want[1])
			if d := cmp.Diff(append(latest, began...), h.Latest()); d != "" {
				t.Errorf("latest changes (-want +got):\n%s", d)
			}
		})
	}
}

func TestTheOldestChangesAreDropped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "objectives.db")
	h := opened(t, path)
	many := make([]slo.Objective, kept/2)
	percent := []string{"99", "98", "97", "96"}
	for round, p := range percent {
		for i := range many {
			many[i] = objective(t, fmt.Sprintf("c%05d", i), func(o *slo.Objective) { o.Target = target(t, p) })
		}
		if err := h.Note(many, at(round)); err != nil {
			t.Fatal(err)
		}
	}
	for name, h := range map[string]*History{"in memory": h, "on disk": nil} {
		if h == nil {
			h = opened(t, copyOf(t, path))
		}
		n := 0
		for i := range many {
			list := h.Of(many[i].ID())
			n += len(list)
			if len(list) == 0 || list[len(list)-1].To != "96" || list[0].From == "99" {
				t.Fatalf("%s: changes of %s are %v, want the newer two", name, many[i].Entity, list)
			}
		}
		if n != kept {
			t.Errorf("%s: %d changes are kept, want %d", name, n, kept)
		}
	}
}

func copyOf(t *testing.T, path string) string {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(to, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestADamagedFileIsSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "objectives.db")
	if err := os.WriteFile(path, make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	h := opened(t, path)
	if h.Damaged != path+".damaged" {
		t.Errorf("the file was set aside as %q", h.Damaged)
	}
	if err := h.Note([]slo.Objective{objective(t, "checkout")}, at(0)); err != nil {
		t.Error(err)
	}
}

// childFile is the environment variable that makes this test binary note one change after the other until it is killed.
const childFile = "SIGHTLINE_CHANGES_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childFile); path != "" {
		h, err := Open(path)
		for i := 1; err == nil; i++ {
			o := slo.Objective{Entity: catalog.NewRef("component", "", "checkout"), Indicator: "availability", Threshold: strconv.Itoa(i), Window: slo.Window{Days: 30}}
			if err = h.Note([]slo.Objective{o}, at(i)); err == nil {
				fmt.Println(i)
			}
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestAKilledProcessLosesNoChangeAndKeepsNoneTwice(t *testing.T) {
	for _, until := range []int{1, 2, 3, 17, 40} {
		path := filepath.Join(t.TempDir(), "objectives.db")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childFile+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := 0
		for lines := bufio.NewScanner(out); said < until && lines.Scan(); {
			said, _ = strconv.Atoi(lines.Text())
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait() //nolint:errcheck // it was killed
		if said < until {
			t.Fatalf("the child ended after %d readings", said)
		}
		h := opened(t, path)
		list := h.Of("component.default.checkout-availability")
		last := len(list) + 1
		if last < said {
			t.Errorf("%d readings were noted, and %d changes are kept", said, len(list))
		}
		for i, c := range list {
			if c.Field != "threshold" || c.From != strconv.Itoa(i+1) || c.To != strconv.Itoa(i+2) {
				t.Fatalf("change %d is %+v", i, c)
			}
		}
		same := slo.Objective{Entity: catalog.NewRef("component", "", "checkout"), Indicator: "availability", Threshold: strconv.Itoa(last), Window: slo.Window{Days: 30}}
		if err := h.Note([]slo.Objective{same}, at(1000)); err != nil {
			t.Fatal(err)
		}
		if again := h.Of(same.ID()); len(again) != len(list) {
			t.Errorf("the same reading after the kill added %v", again[len(list):])
		}
	}
}
