package deploy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

type statement struct {
	Sid, Effect      string
	Action, Resource list
	Condition        map[string]map[string]string
}

// list is one value or several, as in policies.
type list []string

func (l *list) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*l = list{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(l))
}

// The policy allows exactly the calls of the program; calls that change resources are bound to our tag.
func TestPolicyIsWhatIsCalled(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("iam-policy.json")
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Version   string
		Statement []statement
	}
	if err := json.Unmarshal(text, &policy); err != nil {
		t.Fatal(err)
	}
	called := []string{"ec2:CreateTags"} // needed for a launch with tags
	calls := regexp.MustCompile(`\b(?:c\.api|b\.client)\.([A-Z][a-z]+(?:Instances|Images|Subnets|SecurityGroups|KeyPairs|Object|Bucket))\b`)
	for prefix, dir := range map[string]string{"ec2:": "../adapters/ec2", "s3:": "../adapters/s3"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range calls.FindAllStringSubmatch(string(source), -1) {
				// S3's rights have other names than its calls.
				called = append(called, prefix+map[string]string{"HeadObject": "GetObject", "HeadBucket": "ListBucket"}[m[1]])
				if called[len(called)-1] == prefix {
					called[len(called)-1] += m[1]
				}
			}
		}
	}
	var allowed []string
	for _, s := range policy.Statement {
		allowed = append(allowed, s.Action...)
		made := slices.ContainsFunc(s.Resource, func(r string) bool { return regexp.MustCompile(`:(instance|volume|network-interface)/`).MatchString(r) })
		if s.Effect != "Allow" || slices.Contains(s.Action, "*") || made && len(s.Condition) == 0 {
			t.Errorf("%s: got %s of %v on %v, want Allow, no wildcard, and a condition on what is ours", s.Sid, s.Effect, s.Action, s.Resource)
		}
		for _, a := range s.Action {
			if strings.HasPrefix(a, "ec2:") && !strings.HasPrefix(a, "ec2:Describe") && slices.Contains(s.Resource, "*") {
				t.Errorf("%s: got %s on everything, want a narrower resource", s.Sid, a)
			}
		}
	}
	for _, l := range []*[]string{&called, &allowed} {
		slices.Sort(*l)
		*l = slices.Compact(*l)
	}
	if len(called) < 8 || !slices.Equal(called, allowed) {
		t.Errorf("called is  %v\nallowed is %v, want len(called) at least 8 and called %v", called, allowed, allowed)
	}
}
