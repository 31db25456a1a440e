package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// BackstageOptions name the Backstage whose users may read.
type BackstageOptions struct {
	BaseURL  string       // of its backend, where it is asked for keys, e.g. http://localhost:7007
	Issuer   string       // of its tokens; "" means BaseURL + "/api/auth". Set it where Backstage knows itself by another address
	Audience string       // "" means "backstage"
	Client   *http.Client // nil: one with a time limit of 10 s
}

const (
	keysAge  = 5 * time.Second  // Backstage's keys are asked for at most so often, whatever tokens come
	leeway   = 30 * time.Second // of clocks that differ
	maxBody  = 1 << 20
	keysPath = "/api/auth/.well-known/jwks.json"
	infoPath = "/api/auth/v1/userinfo"
)

type backstage struct {
	base, issuer, audience string
	client                 *http.Client
	keys                   *oidc.RemoteKeySet
	now                    func() time.Time
}

func newBackstage(o BackstageOptions, now func() time.Time) (*backstage, error) {
	u, err := url.Parse(o.BaseURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, hinted{fmt.Errorf("backstage address %q is not a URL", o.BaseURL), "write it like https://backstage.example.com"}
	}
	b := &backstage{base: strings.TrimRight(o.BaseURL, "/"), issuer: o.Issuer, audience: o.Audience, client: o.Client, now: now}
	if b.issuer == "" {
		b.issuer = b.base + "/api/auth"
	}
	if b.audience == "" {
		b.audience = "backstage"
	}
	if b.client == nil {
		b.client = &http.Client{Timeout: 10 * time.Second}
	}
	keys := *b.client
	keys.Transport = &keyCache{next: keys.Transport, now: now}
	b.keys = oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), &keys), b.base+keysPath)
	return b, nil
}

// check verifies a Backstage user token. What can be refused without a key is refused first, so that garbage costs no
// call.
func (b *backstage) check(ctx context.Context, token string) (Identity, error) {
	refuse := func(why string) (Identity, error) { return Identity{}, fmt.Errorf("%w: %s", ErrRefused, why) }
	parts := strings.Split(token, ".")
	var header struct{ Alg, Typ string }
	var claims struct {
		Iss, Sub string
		Aud      audience
		Exp, Nbf *float64
	}
	if !decodePart(parts[0], &header) || !decodePart(parts[1], &claims) {
		return refuse("it is not a JSON web token")
	}
	now := b.now()
	switch {
	case header.Alg != "ES256":
		return refuse("it is not signed with ES256")
	case header.Typ != "vnd.backstage.user":
		return refuse("it is not a Backstage user token")
	case claims.Iss != b.issuer:
		return refuse(fmt.Sprintf("its issuer is %q, not %q", claims.Iss, b.issuer))
	case !claims.Aud.has(b.audience):
		return refuse("it is for another audience")
	case claims.Exp == nil || !now.Add(-leeway).Before(seconds(*claims.Exp)):
		return refuse("it has expired")
	case claims.Nbf != nil && now.Add(leeway).Before(seconds(*claims.Nbf)):
		return refuse("it is not valid yet")
	case claims.Sub == "":
		return refuse("it names no user")
	}
	if _, err := b.keys.VerifySignature(ctx, token); err != nil {
		if strings.Contains(err.Error(), "fetching keys") {
			return Identity{}, fmt.Errorf("read the keys of backstage: %w", err)
		}
		return refuse("its signature is wrong")
	}
	return Identity{Subject: claims.Sub, groups: func(ctx context.Context) ([]string, error) { return b.userinfo(ctx, token) }}, nil
}

func (b *backstage) userinfo(ctx context.Context, token string) ([]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.base+infoPath, nil)
	if err != nil {
		return nil, fmt.Errorf("ask backstage for the user's groups: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask backstage for the user's groups: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask backstage for the user's groups: status %d", resp.StatusCode)
	}
	var body struct {
		Claims struct {
			Ent []string `json:"ent"`
		} `json:"claims"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&body); err != nil {
		return nil, fmt.Errorf("ask backstage for the user's groups: %w", err)
	}
	return body.Claims.Ent, nil
}

func seconds(s float64) time.Time { return time.Unix(int64(s), 0) }

func decodePart(part string, into any) bool {
	b, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(b, into) == nil
}

// An audience is one string or a list.
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]string)(a))
	}
	var one string
	if err := json.Unmarshal(b, &one); err != nil {
		return err
	}
	*a = audience{one}
	return nil
}

func (a audience) has(want string) bool {
	for _, v := range a {
		if v == want {
			return true
		}
	}
	return false
}

// A keyCache answers again with the last keys for some seconds: tokens with made-up key ids make the key set ask, and
// must not become as many calls to Backstage. Failures are not kept.
type keyCache struct {
	next http.RoundTripper
	now  func() time.Time

	mu   sync.Mutex
	at   time.Time
	body []byte
}

func (c *keyCache) RoundTrip(req *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.body != nil && c.now().Sub(c.at) < keysAge {
		return answer(req, c.body), nil
	}
	next := c.next
	if next == nil {
		next = http.DefaultTransport
	}
	resp, err := next.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, err
	}
	c.at, c.body = c.now(), body
	return answer(req, body), nil
}

func answer(req *http.Request, body []byte) *http.Response {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}
}
