package exporter

import "time"

// A LogLine is what a system wrote down while a run ran, as it wrote it: with secrets, and with several lines where it did so.
type LogLine struct {
	Time time.Time
	Run  RunID  // the part of the run that wrote it, or the run itself
	Part string // name of that part; "" for the run itself
	Text string
}
