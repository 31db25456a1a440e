// Package simulate makes the simulated platform of the demo: a catalog of teams and components that do not exist, their
// traffic with ordinary days and a few incidents, and the pipelines and scaffolder tasks that they run. Everything is a
// pure function of names and time, so the same moment looks the same after a restart. Wherever its data shows, the word
// "simulated" shows too: in the hosts of its runs, on the pages and in the banner of the demo.
package simulate

import (
	"embed"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed platform/*.yaml
var platform embed.FS

// Host names the systems whose runs are simulated.
const Host = "gitlab.simulated"

// WriteCatalog writes the simulated catalog's files into a folder, which is made where it does not exist.
func WriteCatalog(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder for the simulated catalog: %w", err)
	}
	files, err := fs.Glob(platform, "platform/*.yaml")
	if err != nil {
		return err
	}
	for _, name := range files {
		body, err := platform.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), body, 0o644); err != nil {
			return fmt.Errorf("write the simulated catalog: %w", err)
		}
	}
	return nil
}

// hash spreads its parts over the 64-bit numbers, the same way in every run.
func hash(parts ...any) uint64 {
	h := fnv.New64a()
	fmt.Fprintln(h, parts...)
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x
}

// unit is a number in [0, 1) that depends on the parts alone.
func unit(parts ...any) float64 { return float64(hash(parts...)>>11) / (1 << 53) }
