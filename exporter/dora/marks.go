package dora

import (
	"regexp"
	"slices"
	"strings"
)

var (
	fixTitle  = regexp.MustCompile(`(?i)^\s*(hotfix|revert)\b`)
	fixBranch = regexp.MustCompile(`(?i)(^|/)(hotfix|revert)([-_/]|$)`)
	fixLabel  = regexp.MustCompile(`(?i)(^|[\s:/_-])(hotfix|revert)$`)
	reverts   = regexp.MustCompile(`(?i)\bthis reverts commit ([0-9a-f]{7,64})`)
	botEmail  = regexp.MustCompile(`(?i)^(project|group)_[0-9]+_bot`)
	merge     = regexp.MustCompile(`^Merge (branch|remote-tracking branch|commit|tag) `)
)

// fix tells whether a merge request mends a deployment: its branch, title or a label says hotfix or revert, or a commit of
// it reverts one of the given revisions.
func (c *Change) fix(deployed []string) bool {
	if fixTitle.MatchString(c.Title) || fixBranch.MatchString(c.Branch) || slices.ContainsFunc(c.Labels, fixLabel.MatchString) {
		return true
	}
	for i := range c.Commits {
		for _, m := range reverts.FindAllStringSubmatch(c.Commits[i].Message, -1) {
			if slices.ContainsFunc(deployed, func(sha string) bool { return strings.HasPrefix(sha, strings.ToLower(m[1])) }) {
				return true
			}
		}
	}
	return false
}

// own tells whether a commit is a person's work: not that of a bot, and no merge.
func (c *Commit) own() bool {
	return !strings.HasSuffix(c.Author, "[bot]") && !botEmail.MatchString(c.Email) && !merge.MatchString(c.Title)
}
