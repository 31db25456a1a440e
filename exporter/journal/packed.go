package journal

import "github.com/golang/snappy"

// packFrom is the length from which positions are compressed in memory: a few of each source are long, and seldom read.
const packFrom = 4096

// A position is that of a cursor as it stands in memory.
type position struct {
	text   string
	packed bool
}

// pack gives a position that does not hold on to text when it is long.
func pack(text string) position {
	if len(text) < packFrom {
		return position{text: text}
	}
	return position{string(snappy.Encode(nil, []byte(text))), true}
}

// unpack is the inverse of pack.
func (p position) unpack() string {
	if !p.packed {
		return p.text
	}
	text, err := snappy.Decode(nil, []byte(p.text))
	if err != nil {
		panic("journal: a position in memory is damaged: " + err.Error()) // it is what pack made
	}
	return string(text)
}
