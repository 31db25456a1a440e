package correlate_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// traceparentScript is what ci/gitlab/sightline-traceparent.yml lets a job run first.
func traceparentScript(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../ci/gitlab/sightline-traceparent.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Template struct {
			BeforeScript []string `yaml:"before_script"`
		} `yaml:".sightline-traceparent"`
		Default struct {
			BeforeScript []yaml.Node `yaml:"before_script"`
		} `yaml:"default"`
	}
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if d := file.Default.BeforeScript; len(d) != 1 || d[0].Tag != "!reference" || d[0].Content[0].Value != ".sightline-traceparent" {
		t.Errorf("jobs without a before_script of their own do not have the script: %v", d)
	}
	return strings.Join(file.Template.BeforeScript, "\n")
}

// predefined are GitLab's variables of the job in docs/telemetry.md.
var predefined = []string{"CI_SERVER_HOST=gitlab.example.com", "CI_PROJECT_ID=42", "CI_PIPELINE_ID=1001", "CI_JOB_ID=5001"}

func TestAJobComputesTheIdsOfItsSpanInEveryShell(t *testing.T) {
	span := mustSpan(t, job(nil))
	want := "00-" + span.TraceID.String() + "-" + span.ID.String() + "-01"
	script := traceparentScript(t)
	tools := map[string][]string{"sha256sum": {"cut", "sha256sum"}, "shasum": {"cut", "shasum", "perl"}, "openssl": {"cut", "openssl"}}
	ran := 0
	for _, shell := range [][]string{{"sh", "-e"}, {"bash", "-eo", "pipefail"}, {"dash", "-eu"}, {"busybox", "sh", "-e"}, {"ksh", "-e"}, {"zsh", "-e"}} {
		exe, err := exec.LookPath(shell[0])
		if err != nil {
			t.Logf("%s is not installed", shell[0])
			continue
		}
		for tool, needed := range tools {
			bin := only(t, needed)
			if bin == "" {
				t.Logf("%s is not installed", tool)
				continue
			}
			t.Run(shell[0]+" with "+tool, func(t *testing.T) {
				cmd := exec.Command(exe, append(shell[1:len(shell):len(shell)], "-c", script+"\nprintf %s \"$TRACEPARENT\"")...)
				cmd.Env = append([]string{"PATH=" + bin, "TRACEPARENT=00-of-the-trigger"}, predefined...)
				out, err := cmd.CombinedOutput()
				if err != nil || string(out) != want {
					t.Errorf("TRACEPARENT is %q (%v), want %q", out, err, want)
				}
			})
			ran++
		}
		t.Run(shell[0]+" with no program that hashes", func(t *testing.T) {
			cmd := exec.Command(exe, append(shell[1:len(shell):len(shell)], "-c", script+"\nprintf %s \"$TRACEPARENT\"")...)
			cmd.Env = append([]string{"PATH=" + only(t, []string{"cut"}), "TRACEPARENT=00-of-the-trigger"}, predefined...)
			if shell[0] == "busybox" {
				t.Skip("busybox has sha256sum built in")
			}
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != "00-of-the-trigger" {
				t.Errorf("TRACEPARENT is %q (%v), want the one from before, and a job that goes on", out, err)
			}
		})
	}
	if ran == 0 {
		t.Skip("no shell and no program that hashes is installed")
	}
}

// only makes a folder that holds these programs and nothing else, "" where one of them is not installed.
func only(t *testing.T, programs []string) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range programs {
		exe, err := exec.LookPath(p)
		if err != nil {
			return ""
		}
		if err := os.Symlink(exe, filepath.Join(dir, p)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
