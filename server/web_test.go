package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// certificate writes a certificate for 127.0.0.1 and its key, and gives the pool that trusts it.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sightline"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(t, filepath.Join(dir, "tls.crt"), string(cert))
	write(t, filepath.Join(dir, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool
}

func write(t *testing.T, path, body string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func passwordFile(t *testing.T) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("pass"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return "basic_auth_users: {ada: '" + string(hash) + "'}\n"
}

func TestTLSAndPasswordsComeFromTheWebConfiguration(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir)
	conf := write(t, filepath.Join(dir, "web.yml"), "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"+passwordFile(t))
	url, _, _ := run(t, Options{Path: t.TempDir(), WebConfig: conf, Compile: func(ctx context.Context) (*Compiled, error) { return compile(ctx, "payments") }})
	if !strings.HasPrefix(url, "https://127.0.0.1:") {
		t.Fatalf("the server is at %s", url)
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	for password, want := range map[string]int{"": 401, "wrong": 401, "pass": 200} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/api/v1/owners", nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			req.SetBasicAuth("ada", password)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("password %q: status %d, want %d", password, resp.StatusCode, want)
		}
	}
	resp, err := http.Get("http" + strings.TrimPrefix(url, "https") + "/metrics")
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode == 200 {
			t.Error("plain HTTP is answered too")
		}
	}
}

func TestAWebConfigurationIsCheckedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir)
	for name, test := range map[string]struct {
		body          string
		tokens        bool
		err           string
		authenticates bool
	}{
		"TLS alone lets everybody in":       {"tls_server_config: {cert_file: tls.crt, key_file: tls.key}", false, "", false},
		"passwords authenticate":            {passwordFile(t), false, "", true},
		"client certificates authenticate":  {"tls_server_config: {cert_file: tls.crt, key_file: tls.key, client_ca_file: tls.crt, client_auth_type: RequireAndVerifyClientCert}", false, "", true},
		"wishes for a certificate do not":   {"tls_server_config: {cert_file: tls.crt, key_file: tls.key, client_ca_file: tls.crt, client_auth_type: VerifyClientCertIfGiven}", false, "", false},
		"an unknown key":                    {"tls: {}", false, "field tls not found", false},
		"a certificate that is not there":   {"tls_server_config: {cert_file: no.crt, key_file: tls.key}", false, "no.crt", false},
		"passwords beside tokens":           {passwordFile(t), true, "basic_auth_users stands beside server.auth", false},
		"a password that is no bcrypt hash": {"basic_auth_users: {ada: pass}", false, "hashedSecret too short", false},
	} {
		c, err := readWebConfig(write(t, filepath.Join(dir, "web.yml"), test.body+"\n"))
		if err == nil {
			err = c.check(test.tokens)
		}
		switch {
		case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err) || hintOf(err) == ""):
			t.Errorf("%s: got %v, want %q with a hint", name, err, test.err)
		case test.err == "" && (err != nil || c.authenticates() != test.authenticates):
			t.Errorf("%s: %v, authenticates %v", name, err, c.authenticates())
		}
	}
	if _, err := readWebConfig(filepath.Join(dir, "none.yml")); err == nil || hintOf(err) == "" {
		t.Errorf("a missing file: %v", err)
	}
}
