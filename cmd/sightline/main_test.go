package main

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sightline": func() {
			os.Exit(run(context.Background(), environment{os.Stdin, os.Stdout, os.Stderr, os.Getenv, nil}, os.Args[1:]))
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: fakeTargets, Cmds: map[string]func(*testscript.TestScript, bool, []string){"expand": expand}})
}
