package dashboards

import "testing"

// FuzzLintJSON checks that a file of any bytes is a board or a finding that says where.
func FuzzLintJSON(f *testing.F) {
	for _, b := range build(f, Options{})[:3] {
		f.Add(b.JSON)
	}
	f.Add([]byte(`{"panels":[{"type":"row","panels":[{"type":"timeseries","targets":[{"expr":"rate(x[$__rate_interval])"}]}]}]}`))
	f.Add([]byte(`{"templating":{"list":[{"type":"query","query":{"query":"label_values(up, job)"}}]},"panels":[null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, found := range LintJSON("board.json", body) {
			if found.Rule == "" || found.String() == "" {
				t.Errorf("a finding without a rule: %+v", found)
			}
		}
	})
}
