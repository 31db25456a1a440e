package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
)

// isWhole reads all pages that a file's tree has and checks that each is what it says, and ends where it says. It must come before
// the file is opened for writing: then bbolt walks over the pages in a goroutine of its own, where a damaged one ends the process.
func isWhole(path string) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bolt.Tx) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return err
		}
		if st.Size() < tx.Size() {
			return fmt.Errorf("%w: it has %d bytes of %d", errCorrupt, st.Size(), tx.Size())
		}
		w := &pageWalk{file: f, size: uint64(db.Info().PageSize), seen: make([]bool, tx.Size()/int64(db.Info().PageSize))}
		return w.page(uint64(tx.Cursor().Bucket().RootPage()), nil, nil)
	})
}

// A pageWalk goes over the pages of a file in bbolt's format.
type pageWalk struct {
	file io.ReaderAt
	size uint64 // of a page
	seen []bool // by page: each belongs to one place of the tree
}

const (
	pageHeader   = 16 // id, flags, number of elements, number of pages that it goes on in
	pageElement  = 16
	bucketHeader = 16 // the page of the root, or 0 for a page in the value; a sequence
	branchPage   = 1
	leafPage     = 2
	bucketEntry  = 1
)

// page checks a page whose keys are from least on and before most, where these are not nil, and those below it.
func (w *pageWalk) page(id uint64, least, most []byte) error {
	bad := func(what string) error { return fmt.Errorf("%w: page %d %s", errCorrupt, id, what) }
	n := uint64(len(w.seen))
	if id < 2 || id >= n {
		return bad("is outside of the file")
	}
	b := make([]byte, w.size)
	if _, err := w.file.ReadAt(b, int64(id*w.size)); err != nil {
		return fmt.Errorf("read page %d: %w", id, err)
	}
	more := uint64(binary.NativeEndian.Uint32(b[12:]))
	if binary.NativeEndian.Uint64(b) != id || more >= n-id {
		return bad("says that it is another")
	}
	for i := id; i <= id+more; i++ {
		if w.seen[i] {
			return bad("stands in the tree twice")
		}
		w.seen[i] = true
	}
	if more > 0 {
		b = make([]byte, (more+1)*w.size)
		if _, err := w.file.ReadAt(b, int64(id*w.size)); err != nil {
			return fmt.Errorf("read page %d: %w", id, err)
		}
	}
	if !elements(b, false, least, most) {
		return bad("has elements that cannot be")
	}
	return w.below(b, most)
}

// elements tells whether all keys and values of a page lie in it, after its elements, in order. A page that lies in a value of another
// has no pages below it.
func elements(b []byte, inValue bool, least, most []byte) bool {
	if len(b) < pageHeader {
		return false
	}
	flags, count := binary.NativeEndian.Uint16(b[8:]), uint64(binary.NativeEndian.Uint16(b[10:]))
	if flags != branchPage && flags != leafPage || flags == branchPage && (count == 0 || inValue) || pageHeader+count*pageElement > uint64(len(b)) {
		return false
	}
	for i := range count {
		e := b[pageHeader+i*pageElement:]
		pos, key, value := uint64(binary.NativeEndian.Uint32(e)), uint64(binary.NativeEndian.Uint32(e[4:])), uint64(0)
		if flags == leafPage {
			pos, key, value = key, uint64(binary.NativeEndian.Uint32(e[8:])), uint64(binary.NativeEndian.Uint32(e[12:]))
		}
		if pos < (count-i)*pageElement || pos+key+value > uint64(len(e)) {
			return false
		}
		k := e[pos : pos+key]
		if least != nil && bytes.Compare(k, least) < 0 || i > 0 && bytes.Equal(k, least) || most != nil && bytes.Compare(k, most) >= 0 {
			return false
		}
		least = k
		if flags == branchPage || binary.NativeEndian.Uint32(e) == 0 {
			continue
		}
		in := e[pos+key : pos+key+value]
		if inValue || binary.NativeEndian.Uint32(e) != bucketEntry || len(in) < bucketHeader || binary.NativeEndian.Uint64(in) == 0 && !elements(in[bucketHeader:], true, nil, nil) {
			return false
		}
	}
	return true
}

// below goes over what the elements of a page point to.
func (w *pageWalk) below(b, most []byte) error {
	count := int(binary.NativeEndian.Uint16(b[10:]))
	branch := binary.NativeEndian.Uint16(b[8:]) == branchPage
	key := func(i int) []byte { // of a branch
		e := b[pageHeader+i*pageElement:]
		pos := binary.NativeEndian.Uint32(e)
		return e[pos : pos+binary.NativeEndian.Uint32(e[4:])]
	}
	for i := range count {
		e := b[pageHeader+i*pageElement:]
		if branch {
			end := most
			if i+1 < count {
				end = key(i + 1)
			}
			if err := w.page(binary.NativeEndian.Uint64(e[8:]), key(i), end); err != nil {
				return err
			}
			continue
		}
		if binary.NativeEndian.Uint32(e) != bucketEntry {
			continue
		}
		value := binary.NativeEndian.Uint32(e[4:]) + binary.NativeEndian.Uint32(e[8:])
		if root := binary.NativeEndian.Uint64(e[value:]); root != 0 { // else it lies in the value
			if err := w.page(root, nil, nil); err != nil {
				return err
			}
		}
	}
	return nil
}
