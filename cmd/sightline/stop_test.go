package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/plan"
	"github.com/sightline-dev/sightline/server"
	"github.com/sightline-dev/sightline/slo"
)

func TestStoppingWhileItStartsIsNoError(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	g, _ := catalog.NewGraph(nil, catalog.Ref{})
	err := serve(ctx, environment{stderr: io.Discard}, server.Options{
		Compile: func(context.Context) (*server.Compiled, error) {
			return &server.Compiled{Graph: g, Plan: &plan.Plan{}}, nil
		},
		Listen: "127.0.0.1:0", Path: t.TempDir(), Logger: slog.New(slog.DiscardHandler),
		History: func(ctx context.Context, _ string, _ []slo.Objective) error {
			stop()
			return fmt.Errorf("write history: %w", ctx.Err())
		},
	}, func(string) { t.Error("it started") })
	if err != nil {
		t.Errorf("stopped with the error %v", err)
	}
}
