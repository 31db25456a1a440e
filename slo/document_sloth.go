package slo

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"

	slothv1 "github.com/slok/sloth/pkg/prometheus/api/v1"
	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/catalog"
)

const ownAlerts = "alerts are named by Sightline and routed to the entity's owner"

// sloth reads one document of sloth's version prometheus/v1.
func (r *documentReader) sloth(root *yaml.Node) {
	// The SLOs are read one by one, so that a bad one does not stop the others.
	head, list := without(root, "slos")
	var spec slothv1.Spec
	if !decode(r, head, &spec) {
		return
	}
	r.service(lookup(root, "service"), spec.Service)
	r.slothLabels(root, spec.Labels)
	r.slothPlugins(lookup(root, "slo_plugins"), spec.SLOPlugins)
	if list == nil || list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
		r.say(root, catalog.SeverityError, "slo-document-syntax", "the document has no list of slos", "")
		return
	}
	for _, n := range list.Content {
		n = resolve(n)
		var s slothv1.SLO
		if !decode(r, n, &s) {
			continue
		}
		r.slothLabels(n, s.Labels)
		r.slothPlugins(lookup(n, "plugins"), s.Plugins)
		out := documentSLO{Title: s.Description}
		r.slothAlerting(lookup(n, "alerting"), s.Alerting, &out)
		queries, target := r.slothQueries(lookup(n, "sli"), s.SLI, &out), false
		if out.Target, target = r.target(lookup(n, "objective"), false); target && queries {
			r.add(n, s.Name, out)
		}
	}
}

// without gives a mapping without one of its keys, and that key's value; nil where there is none.
func without(n *yaml.Node, key string) (rest, value *yaml.Node) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		return n, nil
	}
	c := *n
	c.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			value = resolve(n.Content[i+1])
			continue
		}
		c.Content = append(c.Content, n.Content[i], n.Content[i+1])
	}
	return &c, value
}

func (r *documentReader) slothLabels(n *yaml.Node, labels map[string]string) {
	if others(labels) {
		r.leftOut(lookup(n, "labels"), false, "the labels are left out: series and alerts carry entity, owner and system", "remove them, or join sightline_entity_info")
	}
}

// others tells whether there are labels that Sightline does not set itself.
func others(labels map[string]string) bool {
	for name, value := range labels {
		switch name {
		case "entity", "owner", "system", "sloth_id", "sloth_service", "sloth_slo":
		case "severity":
			if value != string(SeverityPage) && value != string(SeverityTicket) {
				return true
			}
		default:
			return true
		}
	}
	return false
}

func (r *documentReader) slothPlugins(n *yaml.Node, p slothv1.SLOPlugins) {
	if len(p.Chain) > 0 || p.OverridePrevious {
		r.leftOut(n, false, "plugins are left out: Sightline runs no code of documents", "remove them")
	}
}

func (r *documentReader) slothQueries(n *yaml.Node, sli slothv1.SLI, out *documentSLO) bool {
	kinds := 0
	for _, set := range []bool{sli.Raw != nil, sli.Events != nil, sli.Plugin != nil} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		r.say(n, catalog.SeverityError, "slo-document-sli", fmt.Sprintf("the sli has %d of events, raw and plugin", kinds), "write exactly one")
		return false
	}
	var err error
	at := n
	switch {
	case sli.Plugin != nil:
		r.say(lookup(n, "plugin"), catalog.SeverityError, "slo-document-sli", "the SLI plugin "+strconv.Quote(sli.Plugin.ID)+" cannot be run: Sightline runs no code of documents", "write its queries as events")
		return false
	case sli.Raw != nil:
		at = lookup(n, "raw", "error_ratio_query")
		out.counts, err = countsOfRatio(sli.Raw.ErrorRatioQuery, false)
	default:
		at = lookup(n, "events", "error_query")
		out.counts, err = countsOf(sli.Events.ErrorQuery, sli.Events.TotalQuery)
		if part := (*partError)(nil); errors.As(err, &part) && part.total {
			at = lookup(n, "events", "total_query")
		}
	}
	if err != nil {
		r.badQuery(at, err)
	}
	return err == nil
}

// badQuery says that an SLO is left out because a query of it cannot be carried over exactly.
func (r *documentReader) badQuery(n *yaml.Node, err error) {
	r.say(n, catalog.SeverityError, "slo-document-query", "the SLO is left out: "+err.Error(), "count events: sum(rate(errors[{{.window}}])) and sum(rate(all[{{.window}}]))")
}

// runbook gives a web address; "" where it is none.
func (r *documentReader) runbook(n *yaml.Node, address string) string {
	if u, err := url.Parse(address); err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		r.leftOut(n, false, "the runbook is left out: it is no web address", "write the whole address, with https:// and without credentials")
		return ""
	}
	return address
}

func (r *documentReader) slothAlerting(n *yaml.Node, a slothv1.Alerting, out *documentSLO) {
	if a.Name != "" && a.Name != AlertBurn {
		r.leftOut(lookup(n, "name"), true, "the name of the alert is left out: "+ownAlerts, "")
	}
	if others(a.Labels) {
		r.leftOut(lookup(n, "labels"), true, "the labels of the alert are left out: "+ownAlerts, "set receivers on the owner")
	}
	for _, key := range slices.Sorted(maps.Keys(a.Annotations)) {
		switch key {
		case "runbook", "runbook_url":
			if u := r.runbook(lookup(n, "annotations", key), a.Annotations[key]); u != "" {
				out.Runbook = u
			}
		default:
			r.leftOut(lookup(n, "annotations", key), true, fmt.Sprintf("the annotation %q of the alert is left out", key), "only runbook and runbook_url are carried over")
		}
	}
	for key, alert := range map[string]slothv1.Alert{"page_alert": a.PageAlert, "ticket_alert": a.TicketAlert} {
		if others(alert.Labels) || len(alert.Annotations) > 0 {
			r.leftOut(lookup(n, key), true, "the labels and annotations of the "+key+" are left out: "+ownAlerts, "set receivers on the owner")
		}
	}
	switch {
	case a.PageAlert.Disable && a.TicketAlert.Disable:
		out.MaxSeverity = SeverityOff
	case a.PageAlert.Disable:
		out.MaxSeverity = SeverityTicket
	case a.TicketAlert.Disable:
		r.leftOut(lookup(n, "ticket_alert", "disable"), false, "the ticket alert cannot be switched off alone", "set "+catalog.Prefix+"alerting to off to have no alerts")
	}
}
