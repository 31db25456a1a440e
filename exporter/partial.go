package exporter

import (
	"errors"
	"fmt"
)

// A PartialError says that some projects (or other parts) of a source could not be read, while the others were. Follow
// goes on at the usual pace after one, because a source leaves failing parts alone by itself.
type PartialError struct {
	Errs []error
	Of   int // parts in all
}

// Error names the number of parts that failed, and the first three errors.
func (e *PartialError) Error() string {
	return fmt.Sprintf("%d of %d could not be read: %v", len(e.Errs), e.Of, errors.Join(e.Errs[:min(len(e.Errs), 3)]...))
}

// Unwrap gives every error.
func (e *PartialError) Unwrap() []error { return e.Errs }
