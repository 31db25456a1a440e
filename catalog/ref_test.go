package catalog

import (
	"encoding/json"
	"fmt"
	"regexp"
	"testing"
)

func TestParseRefFillsInWhatIsLeftOut(t *testing.T) {
	for s, want := range map[string]string{
		"checkout": "component:default/checkout", "Shop/Checkout": "component:shop/checkout", "API:cart": "api:default/cart",
		"group:pay/Team.A_b-c": "group:pay/team.a_b-c", "user:default/ada@example.com": "user:default/ada@example.com", "grüße": "component:default/grüße",
	} {
		if got, err := ParseRef(s, "component"); err != nil || got.String() != want {
			t.Errorf("%q: got %v, error %v, want %s", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", ":", "/", "a:", "a/", ":a", "/a", "a:/b", "a:b/", "a:b:c", "a/b/c", "a b", "a:b/c d", "a\tb", "a\u00a0b", "a\u2028b", "a\x00b", "\xff", "a b:c", "a/b:c", "\u200b",
	} {
		if got, err := ParseRef(s, "component"); err == nil {
			t.Errorf("%q is read as %v", s, got)
		}
	}
	if _, err := ParseRef("checkout", ""); err == nil {
		t.Error("no error without any kind")
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"checkout", "component:default/checkout", "Group:Pay/Team", "a:b:c", "a/b/c", "İ:K/ẞ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRef(s, "component")
		if err != nil {
			return
		}
		if again, err := ParseRef(r.String(), ""); err != nil || again != r {
			t.Errorf("%q gives %v, and that gives %v, error %v", s, r, again, err)
		}
		b, err := json.Marshal(map[Ref]Ref{r: r})
		if err != nil {
			t.Fatal(err)
		}
		var back map[Ref]Ref
		if err := json.Unmarshal(b, &back); err != nil || back[r] != r {
			t.Errorf("%s: %v, error %v", b, back, err)
		}
		for _, max := range []int{1, 10, 11, 12, 40, 63} {
			if slug := Slug(r, max); len(slug) > max || !slugForm.MatchString(slug) || slug != Slug(r, max) {
				t.Errorf("slug of %v: %q", r, slug)
			}
		}
	})
}

var slugForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// Names that differ only in what a slug cannot hold, or only beyond its length, are where a plain replacement collides.
func TestSlugsOfDifferentRefsDiffer(t *testing.T) {
	var refs []Ref
	separators := []string{"", "-", "_", ".", "--", "a"}
	for _, x := range separators {
		for _, y := range separators {
			for i := range 500 {
				name := fmt.Sprintf("service%s%d%sworker", x, i, y)
				refs = append(refs, NewRef("component", "", name), NewRef("component", "shop"+x, name), NewRef("api", "", name),
					NewRef("component", "", "a-very-long-name-whose-end-alone-tells-it-apart-from-others"+name))
			}
		}
	}
	distinct := map[Ref]bool{}
	for _, r := range refs {
		distinct[r] = true
	}
	for _, max := range []int{20, 40, 63} {
		seen := map[string]Ref{}
		for r := range distinct {
			slug := Slug(r, max)
			if other, taken := seen[slug]; taken {
				t.Fatalf("%v and %v have the slug %s", r, other, slug)
			}
			seen[slug] = r
		}
		if len(seen) < 50_000 {
			t.Errorf("only %d refs were compared", len(seen))
		}
	}
}
