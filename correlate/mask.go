package correlate

import (
	"fmt"
	"regexp"
	"strings"
)

// Masked stands in a line where a secret stood.
const Masked = "[MASKED]"

// A Mask finds secrets in text by rules: those of well-known tokens, and those of the user. Safe for concurrent use.
type Mask struct{ rules []maskRule }

type maskRule struct {
	find *regexp.Regexp
	with string
}

// Secrets that have a form of their own, wherever they stand.
var tokenForms = []string{
	`\bgl[a-z]{2,7}-[A-Za-z0-9_.=-]{16,}`,                            // GitLab
	`\bgh[opusr]_[A-Za-z0-9]{20,}`, `\bgithub_pat_[A-Za-z0-9_]{20,}`, // GitHub
	`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`,                       // AWS
	`\bAIza[A-Za-z0-9_-]{30,}`,                            // Google
	`\bxox[abeoprs]-[A-Za-z0-9-]{10,}`,                    // Slack
	`\bhooks\.slack\.com/services/[A-Za-z0-9/_-]+`,        // Slack's webhooks
	`\bhv[sbr]\.[A-Za-z0-9_-]{20,}`,                       // Vault, OpenBao
	`\bnpm_[A-Za-z0-9]{30,}`, `\bpypi-[A-Za-z0-9_-]{30,}`, // registries
	`\b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}`,                                                                // Stripe
	`\bsk-[A-Za-z0-9_-]{20,}`,                                                                                   // OpenAI and others
	`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`,                                                 // JWT
	`\bAGE-SECRET-KEY-1[A-Z0-9]{20,}`, `\bdop_v1_[a-f0-9]{20,}`, `\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}`, // age, DigitalOcean, SendGrid
}

var builtinRules = []maskRule{
	{regexp.MustCompile(strings.Join(tokenForms, "|")), Masked},
	{regexp.MustCompile(`(\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]*:)[^\s/@]+@`), "${1}" + Masked + "@"}, // a password in a URL
	{regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)[a-z0-9._~+/-]{8,}=*`), "${1}" + Masked},
	{regexp.MustCompile(`(?i)(\b(?:private|job|deploy)-token\s*:\s*)[^\s"']+`), "${1}" + Masked}, // headers
	{regexp.MustCompile(`(?i)((?:passw(?:or)?d|passwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)["']?\s*(?:=|:)\s*)(?:"[^"]+"|'[^']+'|[^\s"',;&]+)`), "${1}" + Masked},
}

// NewMask makes a Mask of the built-in rules and further regular expressions, of which every match is masked. One that matches
// the empty text is refused.
func NewMask(expressions []string) (*Mask, error) {
	m := &Mask{rules: builtinRules[:len(builtinRules):len(builtinRules)]}
	for _, x := range expressions {
		re, err := regexp.Compile(x)
		if err != nil {
			return nil, fmt.Errorf("mask %q: %w", x, err)
		}
		if re.MatchString("") {
			return nil, fmt.Errorf("mask %q matches the empty text", x)
		}
		m.rules = append(m.rules, maskRule{re, Masked})
	}
	return m, nil
}

// Apply gives the text without the secrets that the rules find.
func (m *Mask) Apply(s string) string {
	for _, r := range m.rules {
		if r.find.MatchString(s) { // most lines hold none
			s = r.find.ReplaceAllString(s, r.with)
		}
	}
	return s
}
