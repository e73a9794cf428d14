package gateway

import (
	"fmt"
	"strings"
)

// scriptOf returns the demonstration of what else an agent does that has a word as its name; nil: none.
func scriptOf(word string) func(*run) (failed string) {
	return map[string]func(*run) string{
		"/demo":     demo,
		"/markdown": markdown,
		"/tool":     useTools,
		"/slow":     slow,
		"/cold":     cold,
		"/replace":  changeOfMind,
		"/approve":  askToRun,
		"/ask":      askQuestions,
		"/error":    fail,
		"/schedule": scheduled,
		"/cost":     costs,
	}[word]
}

// script answers a question. failed is why there is no answer; "": there is one.
func script(r *run, question string) (failed string) {
	word, words, _ := strings.Cut(strings.TrimSpace(question), " ")
	if s := scriptOf(word); s != nil {
		r.words = strings.TrimSpace(words)
		r.status("starting_model")
		return s(r)
	}
	r.stream(r.g.answer(question), 1)
	return ""
}

func (g *Gateway) answer(question string) string {
	have := "No API key is configured yet."
	if names := g.keyNames(); len(names) > 0 {
		have = "Keys are configured for: " + strings.Join(names, ", ") + "."
	}
	return fmt.Sprintf("You said: “%s”\n\nI am CloudBot's demo agent. The real agent, OpenClaw, does not run on this machine, so no model reads this. %s "+
		"The connection between your browser and this machine works: this answer arrives in pieces.\n\n"+
		"To see an agent work on this desktop, send `/demo`. To see what else an agent shows, send `/markdown`, `/tool`, `/approve`, `/ask`, `/slow`, `/cold`, `/replace`, `/schedule`, `/cost` or `/error`.",
		clipRunes(question, 400), have)
}

func markdown(r *run) string {
	r.stream(`## What Markdown looks like

A paragraph with **strong** words, *stressed* ones, some `+"`code`"+` and a [link to the project](https://github.com/openclaw/openclaw).

1. First, a numbered list
2. then a second item
   - with one below it

- [x] done
- [ ] still to do

`+"```go\npackage main\n\nimport \"fmt\"\n\nfunc main() {\n\tfmt.Println(\"Hello from the machine, in a line that is long enough to need scrolling on a small screen\")\n}\n```"+`

| Machine | State |
| --- | --- |
| desktop | running |
| agent | ready |

> What comes from a machine is not trusted: [this link](javascript:alert(1)) goes nowhere, <b onclick="alert(1)">HTML</b> stays text, and the picture below is not loaded.

![A picture elsewhere](https://example.com/picture.png)
`, 1)
	return ""
}

func useTools(r *run) string {
	r.stream("I pretend to use two tools. The first lists the desktop's files.", 1)
	u := r.tool("exec", map[string]any{"command": "ls -l ~/Desktop"})
	for _, line := range []string{"total 8", "-rw-r--r-- 1 user user 120 notes.txt", "-rw-r--r-- 1 user user  64 plan.md"} {
		if !r.pause(10) {
			return ""
		}
		u.update(line + "\n")
	}
	u.done("total 8\n-rw-r--r-- 1 user user 120 notes.txt\n-rw-r--r-- 1 user user  64 plan.md\n")
	r.stream("The second looks for a file that is not there.", 1)
	u = r.tool("read", map[string]any{"path": "~/Desktop/missing.txt"})
	if !r.pause(10) {
		return ""
	}
	u.failed("ENOENT: no such file or directory, open '/home/user/Desktop/missing.txt'")
	r.stream("That is all: one of them found something, the other did not. Nothing was run.", 1)
	return ""
}

func slow(r *run) string {
	for i := range 60 {
		r.stream(fmt.Sprintf("This is sentence %d of sixty. ", i+1), 8)
	}
	return ""
}

func cold(r *run) string {
	for _, phase := range []string{"preparing_workspace", "provisioning_environment", "running_setup", "preparing_context", "starting_model"} {
		if r.status(phase); !r.pause(25) {
			return ""
		}
	}
	r.stream("That was a cold start: the first answer of a machine takes about half a minute.", 1)
	return ""
}

func changeOfMind(r *run) string {
	r.stream("This is a first draft, which will not stay.", 2)
	if r.pause(10) {
		r.replace("This replaced what was here before.")
		r.stream(" And this was added.", 2)
	}
	return ""
}

func askToRun(r *run) string {
	const command = "rm -rf ~/Downloads/old"
	u := r.tool("exec", map[string]any{"command": command})
	switch r.approval(u.id, command) {
	case "allow-once", "allow-always":
		u.done("(pretended)")
		r.stream("You allowed it. I pretended to run the command; nothing was deleted.", 1)
	case "deny":
		u.failed(r.refusal(command, "user-denied"))
		r.stream("You denied it, so I did not run the command.", 1)
	default:
		u.failed(r.refusal(command, "approval-timeout"))
		r.stream("There was no answer in time, so I did not run the command.", 1)
	}
	return ""
}

func askQuestions(r *run) string {
	answers := r.questions([]question{
		{ID: "colour", Header: "Colour", Question: "Which colour should the desktop have?", IsOther: true,
			Options: []option{{"Blue", "As it is now"}, {"Green", "Easy on the eyes"}, {"Grey", ""}}},
		{ID: "tools", Header: "Tools", Question: "Which tools do you need?", MultiSelect: true,
			Options: []option{{"Browser", ""}, {"Editor", ""}, {"Terminal", ""}}},
		{ID: "name", Header: "Name", Question: "What should the machine be called?", Options: []option{}},
	})
	if answers == nil {
		r.stream("You did not answer, which is fine too.", 1)
		return ""
	}
	var b strings.Builder
	b.WriteString("Thank you. You answered:\n\n")
	for _, id := range []string{"colour", "tools", "name"} {
		fmt.Fprintf(&b, "- %s: %s\n", id, clipRunes(strings.Join(answers[id], ", "), 200))
	}
	r.stream(b.String(), 1)
	return ""
}

func fail(r *run) string {
	r.stream("This begins well enough,", 2)
	return "The model's provider answered 529: overloaded. Nothing is wrong with your machine; try again later."
}

func clipRunes(s string, n int) string {
	r := []rune(s[:min(len(s), 4*n)])
	if len(r) > n {
		return string(r[:n]) + "…"
	}
	return strings.ToValidUTF8(string(r), "")
}
