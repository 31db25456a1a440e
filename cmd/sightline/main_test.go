package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
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
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: fakeTargets, Cmds: map[string]func(*testscript.TestScript, bool, []string){"answer": answer, "expand": expand, "past": pastStore, "live": liveStore, "wellformed": wellformed}})
}

// answer NAME FOLDER starts a server whose URL is $NAME: a request of /a/b gets the file FOLDER/a/b or FOLDER/a/b/index, or
// a 404.
func answer(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[1])
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Join(dir, filepath.FromSlash(path.Clean(r.URL.Path)))
		b, err := os.ReadFile(name)
		if err != nil {
			b, err = os.ReadFile(filepath.Join(name, "index"))
		}
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Write(b)
	}))
	ts.Defer(srv.Close)
	ts.Setenv(args[0], srv.URL)
}
