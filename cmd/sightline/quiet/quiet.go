// Package quiet silences the standard logger while the program's packages are initialised: a library of a library
// (VictoriaMetrics/metrics, reached through sloth) logs a line about the kernel's pressure files to stderr from a
// package variable. It imports only io and log, so that Go initialises it before that library; main sets the
// logger that it wants afterwards.
package quiet

import (
	"io"
	"log"
)

// Silenced is read by main, so that the import is not blank and the reason is found from there.
var Silenced = silence()

func silence() bool {
	log.SetOutput(io.Discard)
	return true
}
