package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

type signer struct {
	kid string
	key *ecdsa.PrivateKey
}

func newSigner(t *testing.T, kid string) signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{kid, key}
}

func (s signer) token(t *testing.T, change func(header, claims map[string]any)) string {
	header := map[string]any{"typ": "vnd.backstage.user", "alg": "ES256", "kid": s.kid}
	claims := map[string]any{"sub": "user:default/dana.ops", "aud": "backstage", "exp": 2000}
	change(header, claims)
	part := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(header) + "." + part(claims)
	if header["alg"] == "none" {
		return text + "."
	}
	sum := sha256.Sum256([]byte(text))
	r, ss, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	ss.FillBytes(sig[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func TestOnlyBackstagesOwnUserTokensPass(t *testing.T) {
	current := newSigner(t, "one")
	calls := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == infoPath {
			w.Write([]byte(`{"claims":{"sub":"user:default/dana.ops","ent":["user:default/dana.ops","group:default/team-portal"]}}`))
			return
		}
		calls++
		point, err := current.key.PublicKey.Bytes() // 4, X, Y
		if err != nil {
			t.Error(err)
		}
		enc := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
		json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]any{
			"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": current.kid,
			"x": enc(point[1:33]), "y": enc(point[33:]),
		}}})
	}))
	defer srv.Close()
	now := time.Unix(1000, 0)
	a, err := New(Options{Backstage: &BackstageOptions{BaseURL: srv.URL}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	valid := func(change func(h, c map[string]any)) string {
		return current.token(t, func(h, c map[string]any) { c["iss"] = srv.URL + "/api/auth"; change(h, c) })
	}
	for name, token := range map[string]string{
		"wrong audience": valid(func(_, c map[string]any) { c["aud"] = "other" }),
		"wrong issuer":   valid(func(_, c map[string]any) { c["iss"] = "http://evil.example/api/auth" }),
		"expired":        valid(func(_, c map[string]any) { c["exp"] = 900 }),
		"no expiry":      valid(func(_, c map[string]any) { delete(c, "exp") }),
		"alg none":       valid(func(h, _ map[string]any) { h["alg"] = "none" }),
		"wrong type":     valid(func(h, _ map[string]any) { h["typ"] = "JWT" }),
		"garbage":        "a.b.c",
		"nothing":        "",
		"foreign key":    newSigner(t, "one").token(t, func(_, c map[string]any) { c["iss"] = srv.URL + "/api/auth" }),
	} {
		if _, err := a.Check(context.Background(), token); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	same := func(_, _ map[string]any) {}
	id, err := a.Check(context.Background(), valid(same))
	if err != nil || id.Subject != "user:default/dana.ops" {
		t.Fatalf("good token: %v %v", id.Subject, err)
	}
	if groups, err := id.Groups(context.Background()); err != nil || len(groups) != 2 {
		t.Errorf("groups %v, %v", groups, err)
	}
	if calls != 1 {
		t.Errorf("%d calls for keys, want 1", calls)
	}
	for who, c := range map[string]struct {
		token string
		want  int
	}{"a Backstage user": {valid(same), http.StatusForbidden}, "nobody": {"", http.StatusUnauthorized}} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/write", nil)
		req.Header.Set("Authorization", "Bearer "+c.token)
		rec := httptest.NewRecorder()
		a.Middleware(StaticOnly(http.NotFoundHandler())).ServeHTTP(rec, req)
		if rec.Code != c.want {
			t.Errorf("%s gets %d where only static tokens pass, want %d", who, rec.Code, c.want)
		}
	}
	current = newSigner(t, "two")
	now = now.Add(time.Minute)
	if _, err := a.Check(context.Background(), valid(same)); err != nil {
		t.Errorf("after the keys were rotated: %v", err)
	}
}

func TestTokenFilesAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	os.WriteFile(path, []byte("# comment\nfirst\n\nsecond\n"), 0o600)
	a, err := New(Options{TokenFiles: []string{path}})
	if err != nil {
		t.Fatal(err)
	}
	check := func(token string, want bool) {
		t.Helper()
		if _, err := a.Check(context.Background(), token); (err == nil) != want {
			t.Errorf("token %q: %v", token, err)
		}
	}
	check("first", true)
	check("second", true)
	check("# comment", false)
	os.WriteFile(path, []byte("the third one\n"), 0o600)
	check("first", false)
	check("the third one", true)
}

func TestAnOpenListenerIsRefusedUnlessItIsLoopbackOrAllowed(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "localhost:1": true, ":1": false, "0.0.0.0:1": false, "10.0.0.1:1": false} {
		if err := CheckListener(addr, false, false); (err == nil) != want {
			t.Errorf("%s: %v", addr, err)
		}
		if CheckListener(addr, true, false) != nil || CheckListener(addr, false, true) != nil {
			t.Errorf("%s: refused with authentication or permission", addr)
		}
	}
}
