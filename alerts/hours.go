package alerts

import (
	"fmt"
	"strings"
)

// hours are a group's office hours as an Alertmanager time interval.
type hours struct {
	name       string // equal hours have equal names
	days       []string
	start, end string
	zone       string
}

var weekdays = map[string]string{"mon": "monday", "tue": "tuesday", "wed": "wednesday", "thu": "thursday", "fri": "friday", "sat": "saturday", "sun": "sunday"}

// parseHours reads "Mon-Fri 08:00-18:00 Europe/Zurich"; without a zone the hours are UTC.
func parseHours(s string) (hours, error) {
	fields := strings.Fields(s)
	if len(fields) != 2 && len(fields) != 3 {
		return hours{}, fmt.Errorf("office hours %q need days, hours and a time zone", s)
	}
	h := hours{zone: "UTC"}
	if len(fields) == 3 {
		h.zone = fields[2]
	}
	for part := range strings.SplitSeq(strings.ToLower(fields[0]), ",") {
		first, last, span := strings.Cut(part, "-")
		a, b := weekdays[first], weekdays[last]
		if a == "" || span && b == "" {
			return hours{}, fmt.Errorf("office hours: %q is not a day or a span of days", part)
		}
		if !span {
			h.days = append(h.days, a)
			continue
		}
		for i, in := 0, false; i < 14; i++ { // a span may pass Sunday; Alertmanager's may not
			d := order[i%7]
			in = in || d == a
			if in {
				h.days = append(h.days, d)
			}
			if in && d == b {
				break
			}
		}
	}
	var ok bool
	if h.start, h.end, ok = strings.Cut(fields[1], "-"); !ok {
		return hours{}, fmt.Errorf("office hours: %q is not a span of hours", fields[1])
	}
	h.name = Prefix + strings.ToLower(fields[0]) + " " + fields[1] + " " + h.zone
	return h, nil
}

var order = [7]string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
