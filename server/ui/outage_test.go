package ui

import (
	"testing"

	"github.com/sightline-dev/sightline/server/api"
)

func TestAnOutageIsWrittenInAUnitThatSuitsTheWholeBudget(t *testing.T) {
	number := func(f float64) api.Number { return &f }
	for _, test := range []struct {
		n, whole api.Number
		want     string
	}{
		{number(-0.66), number(21.6), "−0.7 min"},
		{number(90), number(216), "1.5 h"},
		{number(4320), number(4320), "3.0 d"},
		{nil, number(4320), "–"},
	} {
		if got := outage(test.n, test.whole); got != test.want {
			t.Errorf("outage: %s, want %s", got, test.want)
		}
	}
}
