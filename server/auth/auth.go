// Package auth decides who may read: holders of a static token from a file, and users of the Backstage that Sightline
// stands beside, by their own Backstage token. The identity goes into the request's context.
package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// Options say whom to trust.
type Options struct {
	TokenFiles []string          // one token a line; empty lines and lines that begin with # do not count
	Backstage  *BackstageOptions // nil: Backstage tokens are refused
	Now        func() time.Time  // nil: time.Now
}

// CookieName is the cookie that carries the token of a browser.
const CookieName = "sightline_token"

// ErrRefused is the error of every token that is not good. What exactly is wrong with it is in the text, which never
// holds the token.
var ErrRefused = errors.New("token refused")

// An Identity says who asks.
type Identity struct {
	Subject string // "user:default/ada" for Backstage users, "token:<file name>" for static tokens
	Static  bool

	groups func(context.Context) ([]string, error)
}

// Groups gives the references that a Backstage user owns things by: the user and the groups. It asks Backstage when
// it is called, not before. A static token has none.
func (i Identity) Groups(ctx context.Context) ([]string, error) {
	if i.groups == nil {
		return nil, nil
	}
	return i.groups(ctx)
}

type identityKey struct{}

// IdentityFrom gives the identity that the middleware has put into the context.
func IdentityFrom(ctx context.Context) (Identity, bool) {
	i, ok := ctx.Value(identityKey{}).(Identity)
	return i, ok
}

// An Auth checks tokens. Safe for concurrent use.
type Auth struct {
	now       func() time.Time
	files     []*tokenFile
	backstage *backstage
}

// New makes an Auth. Every token file has to be readable and hold a token; Backstage is not asked yet.
func New(o Options) (*Auth, error) {
	a := &Auth{now: o.Now}
	if a.now == nil {
		a.now = time.Now
	}
	for _, path := range o.TokenFiles {
		f := &tokenFile{path: path}
		if err := f.read(); err != nil {
			return nil, err
		}
		if len(f.hashes) == 0 {
			return nil, hinted{fmt.Errorf("token file %s holds no token", path), "write one token a line, e.g. of `openssl rand -hex 32`"}
		}
		a.files = append(a.files, f)
	}
	if o.Backstage != nil {
		b, err := newBackstage(*o.Backstage, a.now)
		if err != nil {
			return nil, err
		}
		a.backstage = b
	}
	if len(a.files) == 0 && a.backstage == nil {
		return nil, hinted{errors.New("authentication has nobody to trust"), "set server.auth.token_files or server.auth.backstage"}
	}
	return a, nil
}

// Check says whose token it is. The error wraps ErrRefused, or says that Backstage's keys cannot be read.
func (a *Auth) Check(ctx context.Context, token string) (Identity, error) {
	if token == "" {
		return Identity{}, fmt.Errorf("%w: there is none", ErrRefused)
	}
	for _, f := range a.files {
		if f.holds(token) {
			return Identity{Subject: "token:" + f.name(), Static: true}, nil
		}
	}
	if a.backstage != nil && strings.Count(token, ".") == 2 {
		return a.backstage.check(ctx, token)
	}
	return Identity{}, fmt.Errorf("%w: it is not one of ours", ErrRefused)
}

// Token gives the token of a request, from Authorization or else from the cookie; "" when there is none.
func Token(r *http.Request) string {
	if h := r.Header.Get("Authorization"); h != "" {
		kind, token, _ := strings.Cut(h, " ")
		if strings.EqualFold(kind, "bearer") {
			return strings.TrimSpace(token)
		}
		return ""
	}
	if c, err := r.Cookie(CookieName); err == nil {
		return c.Value
	}
	return ""
}

// Middleware lets requests with a good token pass, with the identity in their context. A browser is sent to /login,
// which together with the style sheets below /static/ needs no token; everybody else gets 401 as problem+json.
func (a *Auth) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/login" || strings.HasPrefix(r.URL.Path, "/static/") {
			next.ServeHTTP(w, r)
			return
		}
		id, err := a.Check(r.Context(), Token(r))
		if err == nil {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, id)))
			return
		}
		if strings.Contains(r.Header.Get("Accept"), "text/html") && r.Method == http.MethodGet && !strings.HasPrefix(r.URL.Path, "/api/") {
			http.Redirect(w, r, "/login?to="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
			return
		}
		status, title, hint := http.StatusUnauthorized, "Unauthorized", "send Authorization: Bearer with a token of server.auth.token_files, or your Backstage token"
		if !errors.Is(err, ErrRefused) {
			status, title, hint = http.StatusServiceUnavailable, "Backstage does not answer", "try again; static tokens work meanwhile"
		} else {
			w.Header().Set("WWW-Authenticate", `Bearer realm="sightline"`)
		}
		problem(w, status, title, err.Error(), hint)
	})
}

// StaticOnly lets only the holders of a static token pass: who may look at the platform may not change what it says. It
// stands behind Middleware.
func StaticOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, ok := IdentityFrom(r.Context()); ok && id.Static {
			next.ServeHTTP(w, r)
			return
		}
		problem(w, http.StatusForbidden, "Forbidden", "a Backstage user may read only", "send a token of server.auth.token_files")
	})
}

func problem(w http.ResponseWriter, status int, title, detail, hint string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"title": title, "status": status, "detail": detail, "hint": hint})
}

// A tokenFile holds the hashes of a file's tokens and reads it again when it changes. A file that cannot be read any
// more keeps what it held; one that was emptied holds nothing.
type tokenFile struct {
	path string

	mu      sync.Mutex
	changed time.Time
	size    int64
	hashes  [][sha256.Size]byte
}

func (f *tokenFile) name() string { return f.path[strings.LastIndexByte(f.path, '/')+1:] }

func (f *tokenFile) read() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return hinted{fmt.Errorf("token file: %w", err), "server.auth.token_files lists files with one token a line, e.g. of `openssl rand -hex 32`"}
	}
	if info.ModTime().Equal(f.changed) && info.Size() == f.size {
		return nil
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	f.changed, f.size, f.hashes = info.ModTime(), info.Size(), nil
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			f.hashes = append(f.hashes, sha256.Sum256([]byte(line)))
		}
	}
	return nil
}

// holds compares with every token in constant time.
func (f *tokenFile) holds(token string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.read() // the last good tokens stay when it cannot be read
	sum := sha256.Sum256([]byte(token))
	found := 0
	for i := range f.hashes {
		found |= subtle.ConstantTimeCompare(sum[:], f.hashes[i][:])
	}
	return found == 1
}

type hinted struct {
	error
	hint string
}

// Hint says what to do about the error.
func (h hinted) Hint() string { return h.hint }

// CheckListener refuses an address that others than this machine can reach when there is no authentication, unless
// that is allowed. The error has a Hint method.
func CheckListener(addr string, authConfigured, allowOpen bool) error {
	if authConfigured || allowOpen {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return hinted{fmt.Errorf("listen address %q is not host:port", addr), "write it like 127.0.0.1:9469"}
	}
	if ip := net.ParseIP(strings.Trim(host, "[]")); ip != nil && ip.IsLoopback() || strings.EqualFold(host, "localhost") {
		return nil
	}
	return hinted{
		fmt.Errorf("listen address %q can be reached from other machines, and there is no authentication", addr),
		"set server.auth.backstage or server.auth.token_files, listen on 127.0.0.1, or set server.auth.allow_open: true",
	}
}
