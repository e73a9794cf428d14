package agentconfig

import (
	"reflect"
	"slices"
	"strings"
)

// settle applies one setting to doc, and returns what is ours at its path afterwards; nil: nothing. want is the value
// that we want; nil: none any more. last is the value that we wrote last; nil: none.
func settle(doc map[string]any, path string, want, last any) any {
	parent, name, ok := reach(doc, path)
	if !ok { // the user chose another shape, such as "model": "a/b"
		return last
	}
	now, there := parent[name]
	list, wantsList := want.([]any)
	lastList, hadList := last.([]any)
	switch {
	case wantsList || want == nil && hadList:
		return settleList(doc, path, list, lastList)
	case want == nil:
		if there && reflect.DeepEqual(now, last) {
			remove(doc, path)
		}
		return nil
	case !there || reflect.DeepEqual(now, last) || reflect.DeepEqual(now, want):
		put(doc, path, want)
		return want
	}
	return last // the user's value; it becomes ours again if it becomes the old one
}

// settleList adds our entries to the list at path, and takes those that we no longer want out again. An entry of ours
// that the user removed stays removed.
func settleList(doc map[string]any, path string, want, last []any) any {
	parent, name, _ := reach(doc, path)
	now, isList := parent[name].([]any)
	if _, there := parent[name]; there && !isList {
		return last
	}
	now = slices.Clone(now)
	ours := []any{}
	for _, e := range want {
		switch mine := has(last, e); {
		case has(now, e) && !mine: // the user's
		case has(now, e), mine && isList: // ours, and there or removed by the user
			ours = append(ours, e)
		default:
			now, ours = append(now, e), append(ours, e)
		}
	}
	now = slices.DeleteFunc(now, func(e any) bool { return has(last, e) && !has(want, e) })
	switch {
	case len(now) > 0:
		put(doc, path, now)
	case isList && len(last) > 0:
		remove(doc, path)
	}
	if len(ours) == 0 {
		return nil
	}
	return ours
}

// has reports whether a list contains a string. Other values than strings are in no list of ours.
func has(list []any, e any) bool {
	s, ok := e.(string)
	return ok && slices.ContainsFunc(list, func(v any) bool { return v == any(s) })
}

// closeAdministration completes the denied tools wherever our client is an owner, even if the user removed one: without
// them a chat could administer the gateway. If that is impossible, our client does not become an owner.
func closeAdministration(doc, ours map[string]any) {
	owners, _ := at(doc, ownerPath).([]any)
	if !has(owners, owner) {
		return
	}
	parent, name, ok := reach(doc, denyPath)
	list, isList := parent[name].([]any)
	if _, there := parent[name]; !ok || there && !isList {
		owners = slices.DeleteFunc(slices.Clone(owners), func(e any) bool { return e == any(owner) })
		put(doc, ownerPath, owners)
		delete(ours, ownerPath)
		return
	}
	for _, e := range denied {
		if !has(list, e) {
			list = append(list, e)
		}
	}
	put(doc, denyPath, list)
}

// reach returns the object that holds the last name of path, and that name. The object is empty and not part of doc if
// there is none; ok is false if something else is in its place.
func reach(doc map[string]any, path string) (parent map[string]any, name string, ok bool) {
	names := strings.Split(path, ".")
	parent, name = doc, names[len(names)-1]
	for _, n := range names[:len(names)-1] {
		next, there := parent[n]
		if !there {
			return map[string]any{}, name, true
		}
		if parent, ok = next.(map[string]any); !ok {
			return map[string]any{}, name, false
		}
	}
	return parent, name, true
}

func at(doc map[string]any, path string) any {
	parent, name, _ := reach(doc, path)
	return parent[name]
}

// put sets the value at path, whose place reach found free or ours.
func put(doc map[string]any, path string, value any) {
	names := strings.Split(path, ".")
	for _, n := range names[:len(names)-1] {
		next, ok := doc[n].(map[string]any)
		if !ok {
			next = map[string]any{}
			doc[n] = next
		}
		doc = next
	}
	doc[names[len(names)-1]] = value
}

// remove deletes the value at path, and the objects that it leaves empty.
func remove(doc map[string]any, path string) {
	name, rest, deeper := strings.Cut(path, ".")
	if !deeper {
		delete(doc, name)
		return
	}
	if next, ok := doc[name].(map[string]any); ok {
		remove(next, rest)
		if len(next) == 0 {
			delete(doc, name)
		}
	}
}
