package correlate_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/correlate"
	"github.com/sightline-dev/sightline/exporter"
)

func mask(t testing.TB, expressions ...string) *correlate.Mask {
	t.Helper()
	m, err := correlate.NewMask(expressions)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// told writes lines as seconds since noon, section and text, and spans with those above them.
func told(lines []correlate.Line, sections []correlate.Span) string {
	var b strings.Builder
	names := map[string]string{}
	for _, s := range sections {
		names[s.ID.String()] = s.Name
	}
	for _, l := range lines {
		at := l.Time.Sub(noon)
		fmt.Fprintf(&b, "%s [%s] %s\n", at.Truncate(time.Microsecond), l.Label("section"), l.Text)
		if l.Label("section") != names[l.Label("span_id")] {
			fmt.Fprintf(&b, "  its span is that of %q\n", names[l.Label("span_id")])
		}
	}
	for _, s := range sections {
		fmt.Fprintf(&b, "span %s %s to %s below %q\n", s.Name, s.Start.Sub(noon), s.End.Sub(noon), names[s.Parent.String()])
	}
	return b.String()
}

func TestReadJobLog(t *testing.T) {
	unix := func(seconds int) int64 { return noon.Unix() + int64(seconds) } // the job runs from 3s to 64s
	start := func(seconds int, name string) string {
		return fmt.Sprintf("section_start:%d:%s\r\x1b[0K", unix(seconds), name)
	}
	end := func(seconds int, name string) string {
		return fmt.Sprintf("section_end:%d:%s\r\x1b[0K", unix(seconds), name)
	}
	for _, tt := range []struct {
		name string
		log  correlate.JobLog
		want string
	}{
		{"a runner's log: lines have the time of their section", correlate.JobLog{Head: []byte("\x1b[0KRunning with gitlab-runner 17.0\x1b[0;m\n" +
			start(5, "get_sources") + "\x1b[0K\x1b[36;1mGetting source\x1b[0;m\x1b[0;m\nFetching\n\n" + end(9, "get_sources") + start(10, "step_script") + "\x1b[0K\x1b[36;1mExecuting\x1b[0;m\n" +
			"$ make test\nok\n" + end(60, "step_script") + "\x1b[31;1mERROR: Job failed: exit code 1\x1b[0;m\n")}, `3s [] Running with gitlab-runner 17.0
5s [get_sources] Getting source
5s [get_sources] Fetching
10s [step_script] Executing
10s [step_script] $ make test
10s [step_script] ok
1m0s [] ERROR: Job failed: exit code 1
span get_sources 5s to 9s below ""
span step_script 10s to 1m0s below ""
`},
		{"sections in sections; one that never ends, ends with what it stands in or with the job", correlate.JobLog{Head: []byte(
			start(10, "step_script") + "\n" + start(12, "build[collapsed=true]") + "Build\n" + start(20, "test") + "Test\n" + end(50, "step_script") + "\n" + start(51, "after_script") + "After\n")}, `12s [build] Build
20s [test] Test
51s [after_script] After
span step_script 10s to 50s below ""
span build 12s to 50s below "step_script"
span test 20s to 50s below "build"
span after_script 51s to 1m4s below ""
`},
		{"times of the job's own clock stay within the job", correlate.JobLog{Head: []byte(start(-3600, "a") + "early\n" + end(-3000, "a") + start(9999, "b") + "late\n" + end(9999, "b"))}, `3s [a] early
1m4s [b] late
span a 3s to 3s below ""
span b 1m4s to 1m4s below ""
`},
		{"the runner's timestamps are those of the lines, and lines that it cut up are whole", correlate.JobLog{Head: []byte(
			"2026-03-01T12:00:05.250000Z 00O Running\n2026-03-01T12:00:06.000000Z 00O " + start(6, "step_script") + "Executing\n" +
				"2026-03-01T12:00:07.000000Z 01E half\n2026-03-01T12:00:08.000000Z 01E+ and half\n2026-03-01T12:00:09.000000Z 01O\n2026-03-01T12:00:10.500000Z 01O done\n")}, `5.25s [] Running
6s [step_script] Executing
7s [step_script] half and half
10.5s [step_script] done
span step_script 6s to 1m4s below ""
`},
		{"what is written over is gone, and text that only looks like a mark stays", correlate.JobLog{Head: []byte(
			"  0%\r 50%\r100%\r\nabc\rX\nlong line\r\x1b[Kshort\nab\b\bAB\n\x1b]0;title\agone\x1b(B\nsection_start:1:x is said\nsection_end:2:nothing\r\x1b[0Kafter\n")}, `3s [] 100%
3s [] Xbc
3s [] short
3s [] AB
3s [] gone
3s [] section_start:1:x is said
3s [] after
`},
		{"an erased line goes on in its column", correlate.JobLog{Head: []byte("abc\x1b[2Kd\nabc\x1b[2Kd\rX\nabc\x1b[K\b\b\x1b[Kd\nabc\x1b[2K\n")}, `3s []    d
3s [] X  d
3s [] ad
`},
		{"a middle that is left out takes half lines with it", correlate.JobLog{Head: []byte(start(5, "step_script") + "first\nhalf a li"), Left: 4711, Tail: []byte("ne\nlast\n" + end(60, "step_script") + end(61, "unknown"))}, `5s [step_script] first
5s [step_script] [4711 bytes of this log are left out]
5s [step_script] last
span step_script 5s to 1m0s below ""
`},
		{"a log that was not read to its end says so", correlate.JobLog{Head: []byte("one\ntwo\nthr"), Cut: true}, `3s [] one
3s [] two
3s [] [this log is longer; its end was not read]
`},
		{"an empty log", correlate.JobLog{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, told(correlate.ReadJobLog(job(nil), tt.log, mask(t)))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// A line of a megabyte that erases itself again and again must not cost the square of its length.
func TestALineThatErasesItselfCostsNoMoreThanItsLength(t *testing.T) {
	log := strings.Repeat("x", 600_000) + strings.Repeat("\x1b[2K", 100_000) + "\rdone\n"
	if d := cmp.Diff("3s [] done\n", told(correlate.ReadJobLog(job(nil), correlate.JobLog{Head: []byte(log)}, mask(t)))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestTheLinesOfAJobLogBelongToTheJob(t *testing.T) {
	log := correlate.JobLog{Head: []byte("one\nsection_start:1772366410:step_script\r\x1b[0Ktwo\n")}
	lines, sections := correlate.ReadJobLog(job(nil), log, mask(t))
	span := mustSpan(t, job(nil))
	if len(lines) != 2 || len(sections) != 1 {
		t.Fatalf("%d lines, %d sections", len(lines), len(sections))
	}
	got := map[string]string{}
	for _, l := range append(lines[0].Labels, lines[0].Metadata...) {
		got[l.Name] = l.Value
	}
	want := map[string]string{
		"kind": "job_log", "level": "info", "owner": "group:default/payments", "service_name": "checkout", "source": "gitlab", "entity": "component:default/checkout",
		"run_id": "42/job/5001", "span_id": span.ID.String(), "system": "system:default/shop", "task": "test 1/3", "trace_id": span.TraceID.String(),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("labels and metadata (-want +got):\n%s", d)
	}
	if s := sections[0]; s.Parent != span.ID || s.TraceID != span.TraceID || lines[1].Label("span_id") != s.ID.String() {
		t.Errorf("the section is %s below %s in %s; its line has span %s", s.ID, s.Parent, s.TraceID, lines[1].Label("span_id"))
	}
	for name, r := range map[string]exporter.Run{
		"a job that never ran": job(func(r *exporter.Run) { r.Started = time.Time{} }), "a pipeline": pipeline(nil),
	} {
		if lines, sections := correlate.ReadJobLog(r, log, mask(t)); lines != nil || sections != nil {
			t.Errorf("%s has %d lines and %d sections", name, len(lines), len(sections))
		}
	}
}

func TestSecretsAreMasked(t *testing.T) {
	m := mask(t, `customer-\d+`)
	for in, want := range map[string]string{
		"git clone https://oauth2:glpat-AbCdEfGhIjKlMnOpQrSt@gitlab.example.com/a.git": "git clone https://oauth2:[MASKED]@gitlab.example.com/a.git",
		"token is glpat-AbCdEfGhIjKlMnOpQrSt.01.0a1b2c3d4, go on":                      "token is [MASKED], go on",
		"CI_JOB_TOKEN=glcbt-64_AbCdEfGhIjKlMnOpQrSt":                                   "CI_JOB_TOKEN=[MASKED]",
		"export DB_PASSWORD='correct horse' && run":                                    "export DB_PASSWORD=[MASKED] && run",
		`{"api_key": "0123456789", "user": "me"}`:                                      `{"api_key": [MASKED], "user": "me"}`,
		"Authorization: Bearer abcdefghijklmnop==":                                     "Authorization: Bearer [MASKED]",
		"curl -H 'PRIVATE-TOKEN: abc123' x":                                            "curl -H 'PRIVATE-TOKEN: [MASKED]' x",
		"aws AKIAABCDEFGHIJKLMNOP":                                                     "aws [MASKED]",
		"ghp_abcdefghijklmnopqrstuvwxyz0123456789":                                     "[MASKED]",
		"jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl":                    "jwt [MASKED]",
		"of customer-4711":                                                             "of [MASKED]",
		"postgres://app:s3cr3t@db/app":                                                 "postgres://app:[MASKED]@db/app",
		"the secretary has no tokens; see https://example.com:8443/a@b":                "the secretary has no tokens; see https://example.com:8443/a@b",
		"ok  	example.com/shop	0.3s":                                                   "ok  	example.com/shop	0.3s",
	} {
		if got := m.Apply(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	log := correlate.JobLog{Head: []byte("key:\n-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----\nglpat-\x1b[31mAbCdEfGhIjKlMnOpQrSt\x1b[0m\n")}
	if d := cmp.Diff("3s [] key:\n3s [] [MASKED]\n3s [] [MASKED]\n", told(correlate.ReadJobLog(job(nil), log, m))); d != "" {
		t.Errorf("a private key, and a token in two colours (-want +got):\n%s", d)
	}
	for _, bad := range []string{"(", "a*"} {
		if _, err := correlate.NewMask([]string{bad}); err == nil {
			t.Errorf("the rule %q is taken", bad)
		}
	}
}

func FuzzReadJobLog(f *testing.F) {
	f.Add([]byte("section_start:1772366410:a\r\x1b[0Khello\nsection_end:1772366420:a\r\x1b[0K"), []byte("tail\n"), int64(3))
	f.Add([]byte("2026-03-01T12:00:05.250000Z 00O x\n2026-03-01T12:00:05.250000Z 00O+ y\n\x1b]0;\x1b["), []byte(nil), int64(0))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nab\r\b\b\xff\xc2\x9b2Kx\n"), []byte(nil), int64(0))
	m := mask(f)
	run := job(nil)
	f.Fuzz(func(t *testing.T, head, tail []byte, left int64) {
		log := correlate.JobLog{Head: head, Tail: tail, Left: max(left, 0)}
		lines, sections := correlate.ReadJobLog(run, log, m)
		if again := told(correlate.ReadJobLog(run, log, m)); again != told(lines, sections) {
			t.Error("the same log gives other lines")
		}
		for i, l := range lines {
			if i > 0 && !l.Time.After(lines[i-1].Time) || l.Time.Before(run.Started) || l.Time.After(run.Finished.Add(time.Duration(len(lines)))) {
				t.Errorf("line %d is of %s", i, l.Time)
			}
			if !utf8.ValidString(l.Text) || l.Text == "" || len(l.Text) > 65<<10 || strings.ContainsFunc(l.Text, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }) {
				t.Errorf("line %d is %q", i, l.Text)
			}
		}
		ids := map[string]bool{}
		for _, s := range sections {
			if ids[s.ID.String()] || s.Start.Before(run.Started) || s.End.Before(s.Start) || s.End.After(run.Finished) {
				t.Errorf("section %v", s)
			}
			ids[s.ID.String()] = true
		}
	})
}
