package exporter

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sightline-dev/sightline/catalog"
)

// A Made says that a scaffolder task ended well and names a project as its result. The scaffolder's source leaves it in the
// journal, at MadeCursor; the source of the project's host follows the project from there, and forgets the cursor.
type Made struct {
	Task     string      `json:"task"` // its id
	Template string      `json:"template"`
	Entity   catalog.Ref `json:"entity,omitzero"` // the template's
	Owner    catalog.Ref `json:"owner,omitzero"`
	System   catalog.Ref `json:"system,omitzero"`
	Path     string      `json:"path"` // of the project on its host
	Created  time.Time   `json:"created"`
	Ended    time.Time   `json:"ended"`
}

// MadeReady is the cursor whose position says, as RFC 3339, since when tasks are news. It exists once history was read.
const MadeReady = "made"

// MadePrefix begins the cursors of all that was made on a host.
func MadePrefix(host string) string { return "made/" + host + "/" }

// Leave gives the batch that leaves it in the journal.
func (m *Made) Leave(host string) (Batch, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return Batch{}, fmt.Errorf("what task %s made: %w", m.Task, err)
	}
	return Batch{Cursor: MadePrefix(host) + m.Task, Position: string(text)}, nil
}
