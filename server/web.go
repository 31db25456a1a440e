package server

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/engine"
)

// A webConfig is exporter-toolkit's web configuration; the zero file is plain HTTP. The toolkit reads the file again for
// each connection, so that new certificates and passwords are taken over.
type webConfig struct {
	path string
	file struct {
		TLS struct {
			Cert       string `yaml:"cert"`
			CertFile   string `yaml:"cert_file"`
			ClientAuth string `yaml:"client_auth_type"`
		} `yaml:"tls_server_config"`
		Users map[string]string `yaml:"basic_auth_users"`
	}
}

func readWebConfig(path string) (*webConfig, error) {
	c := &webConfig{path: path}
	if path == "" {
		return c, nil
	}
	const hint = "see exporter-toolkit's documentation of the web configuration; server.web_config_file names the file"
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, engine.NewError("read web configuration", hint, err)
	}
	if err := web.Validate(path); err != nil {
		return nil, engine.NewError("web configuration "+path, hint, err)
	}
	if err := yaml.Unmarshal(b, &c.file); err != nil {
		return nil, engine.NewError("web configuration "+path, hint, err)
	}
	return c, nil
}

// check refuses two kinds of authentication that want the same header.
func (c *webConfig) check(tokens bool) error {
	if tokens && len(c.file.Users) > 0 {
		return engine.NewError("web configuration "+c.path, "keep either basic_auth_users or server.auth: a request has one Authorization header",
			errors.New("basic_auth_users stands beside server.auth"))
	}
	return nil
}

// authenticates tells whether the toolkit lets nobody in without a password or certificate.
func (c *webConfig) authenticates() bool {
	return len(c.file.Users) > 0 || c.file.TLS.ClientAuth == "RequireAndVerifyClientCert"
}

func (c *webConfig) scheme() string {
	if c.file.TLS.Cert != "" || c.file.TLS.CertFile != "" {
		return "https"
	}
	return "http"
}

func (c *webConfig) serve(l net.Listener, s *http.Server, log *slog.Logger) error {
	if c.path == "" {
		return s.Serve(l)
	}
	return web.Serve(l, s, &web.FlagConfig{WebConfigFile: &c.path}, log)
}
