package grafana

import (
	"context"
	"fmt"
	"strings"

	"github.com/grafana/grafana-openapi-client-go/client/folders"
	"github.com/grafana/grafana-openapi-client-go/client/library_elements"
	"github.com/grafana/grafana-openapi-client-go/client/teams"
	"github.com/grafana/grafana-openapi-client-go/models"

	"github.com/sightline-dev/sightline/catalog"
	"github.com/sightline-dev/sightline/plan"
)

// maxUID is how long Grafana lets a uid be.
const maxUID = 40

// edit is Grafana's permission to change what a folder holds.
const edit models.PermissionType = 2

const (
	unownedUID   = markPrefix + "unowned"
	unownedTitle = "Sightline: no owner"
)

// folderUID is the uid of an owner's folder.
func folderUID(owner catalog.Ref) string {
	if owner.IsZero() {
		return unownedUID
	}
	return markPrefix + catalog.Slug(owner, maxUID-len(markPrefix))
}

func folderTitle(owner catalog.Ref) string {
	if owner.IsZero() {
		return unownedTitle
	}
	return owner.String()
}

// folderOwner tells whose folder it is; false for one that Sightline did not make, or that somebody renamed.
func folderOwner(uid, title string) (catalog.Ref, bool) {
	if uid == unownedUID && title == unownedTitle {
		return catalog.Ref{}, true
	}
	if !strings.HasPrefix(uid, markPrefix) {
		return catalog.Ref{}, false
	}
	owner, err := catalog.ParseRef(title, "")
	return owner, err == nil && folderUID(owner) == uid
}

// home makes the folder of an owner, and lets the owner's team edit it.
func (t *Target) home(ctx context.Context, owner catalog.Ref) error {
	uid := folderUID(owner)
	if t.granted[uid] {
		return nil
	}
	if !t.folders[uid] {
		if err := t.makeFolder(ctx, uid, folderTitle(owner)); err != nil {
			return err
		}
		t.folders[uid] = true
	}
	if err := t.grant(ctx, uid, owner); err != nil {
		return fmt.Errorf("give the team of %s its folder: %w", owner, err)
	}
	t.granted[uid] = true
	return nil
}

func (t *Target) makeFolder(ctx context.Context, uid, title string) error {
	exists := func() (bool, error) {
		_, err := call(ctx, t, func() (*folders.GetFolderByUIDOK, error) {
			return t.api.Folders.GetFolderByUIDWithParams(folders.NewGetFolderByUIDParamsWithContext(ctx).WithFolderUID(uid))
		})
		if isCode(err, 404) {
			return false, nil
		}
		return err == nil, err
	}
	if ok, err := exists(); ok || err != nil { // the search shows only folders that the token may see
		return err
	}
	_, err := call(ctx, t, func() (*folders.CreateFolderOK, error) {
		return t.api.Folders.CreateFolderWithParams(folders.NewCreateFolderParamsWithContext(ctx).WithBody(&models.CreateFolderCommand{UID: uid, Title: title}))
	})
	if isCode(err, 409, 412) { // made meanwhile, or a folder of the same title
		if ok, readErr := exists(); ok || readErr != nil {
			return readErr
		}
		return fmt.Errorf("make the folder %q: another folder has this title: %w", title, plan.ErrForeign)
	}
	if err != nil {
		return fmt.Errorf("make the folder %q: %w", title, err)
	}
	return nil
}

// grant lets the team that has the owner's reference, or in the default namespace its bare name, edit the folder.
// Everybody else's permissions stay as they are.
func (t *Target) grant(ctx context.Context, uid string, owner catalog.Ref) error {
	if owner.Kind != "group" {
		return nil
	}
	names := []string{owner.String()}
	if owner.Namespace == "default" {
		names = append(names, owner.Name)
	}
	team, err := t.team(ctx, names)
	if isCode(err, 403) {
		t.notes["the token may not read teams (teams:read), so folders are as new folders are in this Grafana"] = true
		return nil
	}
	if err != nil || team == 0 {
		return err
	}
	now, err := call(ctx, t, func() (*folders.GetFolderPermissionListOK, error) {
		return t.api.Folders.GetFolderPermissionListWithParams(folders.NewGetFolderPermissionListParamsWithContext(ctx).WithFolderUID(uid))
	})
	if isCode(err, 403) {
		t.notes["the token may not read and write the permissions of folders (folders.permissions:read, folders.permissions:write), so teams got none"] = true
		return nil
	}
	if err != nil {
		return err
	}
	// The call replaces the whole list.
	list := models.UpdateDashboardACLCommand{Items: []*models.DashboardACLUpdateItem{}}
	for _, p := range now.Payload {
		switch {
		case p.Inherited:
		case p.TeamID == team && p.Permission >= edit:
			return nil
		case p.TeamID != team:
			list.Items = append(list.Items, &models.DashboardACLUpdateItem{UserID: p.UserID, TeamID: p.TeamID, Role: p.Role, Permission: p.Permission})
		}
	}
	list.Items = append(list.Items, &models.DashboardACLUpdateItem{TeamID: team, Permission: edit})
	_, err = call(ctx, t, func() (*folders.UpdateFolderPermissionsOK, error) {
		return t.api.Folders.UpdateFolderPermissionsWithParams(folders.NewUpdateFolderPermissionsParamsWithContext(ctx).WithFolderUID(uid).WithBody(&list))
	})
	return err
}

// team gives the id of the first team that exists, else 0.
func (t *Target) team(ctx context.Context, names []string) (int64, error) {
	for _, name := range names {
		found, err := call(ctx, t, func() (*teams.SearchTeamsOK, error) {
			return t.api.Teams.SearchTeams(teams.NewSearchTeamsParamsWithContext(ctx).WithName(&name))
		})
		if err != nil {
			return 0, err
		}
		for _, team := range found.Payload.Teams {
			if team.ID != nil && team.Name != nil && strings.EqualFold(*team.Name, name) {
				return *team.ID, nil
			}
		}
	}
	return 0, nil
}

// empty tells whether a folder holds nothing at all. Grafana before 10 cannot count; there the search and the list of
// library panels tell, and Grafana itself refuses to delete a folder that holds alert rules.
func (t *Target) empty(ctx context.Context, uid string) (bool, error) {
	counts, err := call(ctx, t, func() (*folders.GetFolderDescendantCountsOK, error) {
		return t.api.Folders.GetFolderDescendantCountsWithParams(folders.NewGetFolderDescendantCountsParamsWithContext(ctx).WithFolderUID(uid))
	})
	if err != nil && !isCode(err, 404) {
		return false, fmt.Errorf("count what the folder %s holds: %w", uid, err)
	}
	if err == nil {
		for _, n := range counts.Payload {
			if n > 0 {
				return false, nil
			}
		}
	}
	hits, err := t.search(ctx, query{folder: uid})
	if err != nil {
		return false, err
	}
	for _, h := range hits {
		if h.FolderUID == uid {
			return false, nil
		}
	}
	const size int64 = 100
	for page := int64(1); ; page++ {
		got, err := call(ctx, t, func() (*library_elements.GetLibraryElementsOK, error) {
			return t.api.LibraryElements.GetLibraryElements(library_elements.NewGetLibraryElementsParamsWithContext(ctx).
				WithFolderFilterUIDs(&uid).WithPage(ptr(page)).WithPerPage(ptr(size)))
		})
		if err != nil {
			return false, fmt.Errorf("list the library panels of the folder %s: %w", uid, err)
		}
		if got.Payload.Result == nil {
			return true, nil
		}
		for _, e := range got.Payload.Result.Elements {
			if e.FolderUID == uid {
				return false, nil
			}
		}
		if int64(len(got.Payload.Result.Elements)) < size {
			return true, nil
		}
	}
}

// removeFolder deletes a folder of ours when it holds nothing.
func (t *Target) removeFolder(ctx context.Context, uid string) error {
	got, err := call(ctx, t, func() (*folders.GetFolderByUIDOK, error) {
		return t.api.Folders.GetFolderByUIDWithParams(folders.NewGetFolderByUIDParamsWithContext(ctx).WithFolderUID(uid))
	})
	if isCode(err, 404) || uid == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the folder %s: %w", uid, err)
	}
	if _, ours := folderOwner(uid, got.Payload.Title); !ours {
		return nil
	}
	if empty, err := t.empty(ctx, uid); err != nil || !empty {
		return err
	}
	_, err = call(ctx, t, func() (*folders.DeleteFolderOK, error) {
		return t.api.Folders.DeleteFolder(folders.NewDeleteFolderParamsWithContext(ctx).WithFolderUID(uid))
	})
	if err != nil && !isCode(err, 404) {
		return fmt.Errorf("remove the empty folder %s: %w", uid, err)
	}
	return nil
}
