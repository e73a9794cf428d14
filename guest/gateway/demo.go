package gateway

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/proc"
	"github.com/cloudbot-ai/control-plane/guest/x11"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

const (
	pictureWidth = 1280
	maxPicture   = 400_000 // bytes of a screenshot
	holdLimit    = 2 * time.Minute
)

// The demo's words on the screen. \b corrects a mistake, as a person does.
const (
	greeting = `    .---.     Hello!
   | o o |    I am the demo agent of CloudBot.
   |  -  |
    '---'     I moved the mouse, I clicked in here,
              and now I tipe\b\b\bype these words.

  You see all that I do, and can stop me at any time.
`
	refused = "\n  You said no, so your files stay as they are.\n"
	unheard = "\n  There was no answer, so your files stay as they are.\n"

	note    = "hello-from-cloudbot.txt"
	command = "mkdir -p ~/Desktop && cp greeting.txt ~/Desktop/" + note
	reading = "ls ~/Desktop"
)

// stage is a demo on the desktop.
type stage struct {
	*run
	d    *x11.Display
	env  map[string]string
	user *proc.User
	w    *window
}

// demo works on the desktop that the user sees: it opens a window, types, takes a screenshot, and asks before it saves a
// file. The window stays open until the next demo.
func demo(r *run) string {
	if !r.g.beginDemo() {
		r.stream("A demo is running in another chat. Only one can use the mouse and keyboard at a time, so send `/demo` again when it has ended.", 1)
		return ""
	}
	defer r.g.endDemo()
	var s stage
	if r.g.c.Screen != nil {
		s.env, s.user = r.g.c.Screen()
	}
	if len(s.env) == 0 {
		return withoutDesktop(r)
	}
	d, err := x11.Open(r.ctx, s.env)
	if errors.Is(err, x11.ErrInput) {
		r.stream("You have the mouse and keyboard. Give them back and send `/demo` again to see the demo.", 1)
		return ""
	}
	if err != nil {
		return "The demo cannot reach this machine's desktop: " + err.Error()
	}
	defer d.Close()
	s.run, s.d = r, d
	r.g.keepWindow(nil) // of the demo before
	err = s.play()
	if r.ctx.Err() != nil && s.w != nil {
		s.w.close()
	} else if s.w != nil {
		r.g.keepWindow(s.w)
	}
	switch {
	case err == nil || r.ctx.Err() != nil:
		return ""
	case errors.Is(err, errHeld):
		r.stream("\n\nYou still have the mouse and keyboard, so I end the demo here. Give them back and send `/demo` to see it again.", 1)
		return ""
	case s.w != nil && s.w.closed():
		r.stream("\n\nThe demo's window was closed, so I end here. Send `/demo` to see it again.", 1)
		return ""
	}
	return "The demo ended early: " + err.Error()
}

func withoutDesktop(r *run) string {
	r.stream("This machine has no desktop at present: there is no X server, and its screen is a built-in picture. So the demo has nothing to click on, "+
		"and I can show you one thing only: that an agent asks before it does something that matters.", 1)
	askToRun(r)
	r.stream("\n\nTo see an agent work on a desktop, install TigerVNC, openbox and xterm where you ran `make run`, then stop and start this desktop. ", 1)
	return ""
}

func (s *stage) play() error {
	s.stream("Watch the screen: I will write a note on this desktop. It takes about half a minute, and Stop ends it at once.", 1)
	if err := s.open(); err != nil {
		return err
	}
	r, err := s.d.Place(s.w.id)
	if err != nil {
		return err
	}
	x, y := (r.Min.X+r.Max.X)/2, r.Min.Y+r.Dy()*3/4
	steps := []func() error{
		func() error { return s.click(x, y) },
		func() error { return s.write(greeting) },
		s.screenshot,
		s.save,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// open opens the window.
func (s *stage) open() (err error) {
	u := s.tool("exec", map[string]any{"command": "open a terminal window"})
	if s.w, err = openWindow(s.ctx, s.d, s.env, s.user); err != nil {
		u.failed(err.Error())
		return err
	}
	u.done("The window is open.")
	return nil
}

// save asks whether the note may be saved, and does it in the window.
func (s *stage) save() error {
	s.stream("\n\nThat is what I see. Next I would like to save this note on your desktop. An agent asks first when something matters: may I?", 1)
	u := s.tool("exec", map[string]any{"command": command})
	s.cwd = s.w.dir
	switch s.approval(u.id, command) {
	case "allow-once", "allow-always":
	case "deny":
		u.failed(s.refusal(command, "user-denied"))
		if err := s.write(refused); err != nil {
			return err
		}
		s.stream("\n\nYou denied it, so I saved nothing.", 1)
		return s.farewell()
	default:
		u.failed(s.refusal(command, "approval-timeout"))
		if err := s.write(unheard); err != nil {
			return err
		}
		s.stream("\n\nThere was no answer in time, so I saved nothing.", 1)
		return s.farewell()
	}
	u.update("Typing the command in the window.\n")
	began := time.Now()
	u, err := s.patiently(u, s.finishPaper, s.typing(command+"\n"))
	if err != nil {
		return err
	}
	if !s.saved(began) {
		u.failed("The file did not appear.")
		s.stream("\n\nI typed the command, but the file did not appear on your desktop.", 1)
		return s.farewell()
	}
	u.done("Saved ~/Desktop/" + note + ".")
	if err := s.write(reading + "\n"); err != nil {
		return err
	}
	if err := s.screenshot(); err != nil {
		return err
	}
	s.stream("\n\nDone: `~/Desktop/"+note+"` is yours.", 1)
	return s.farewell()
}

// finishPaper ends the note, after which the window's shell reads commands.
func (s *stage) finishPaper() error {
	if err := s.focus(); err != nil {
		return err
	}
	if err := s.d.Key('d', x11.Control); err != nil {
		return err
	}
	s.pause(20) // the shell shows its prompt
	return s.ctx.Err()
}

// saved waits a little for the file.
func (s *stage) saved(since time.Time) bool {
	path := filepath.Join(s.env["HOME"], "Desktop", note)
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if st, err := os.Lstat(path); err == nil && st.Size() > 0 && st.ModTime().After(since.Add(-2*time.Second)) {
			return true
		}
		if retry.Sleep(s.ctx, 20*time.Millisecond) != nil {
			return false
		}
	}
	return false
}

func (s *stage) farewell() error {
	s.stream("\n\nThis was a demo: I am CloudBot's demo agent. I followed a script, and no model read your message. "+
		"The window stays open; you may close it. For the real agent, add an API key, and run `make agent` where you ran `make run`. "+
		"Stop and start the desktop, then ask for anything that you could do on this desktop yourself.", 1)
	return nil
}

// screenshot takes a picture of the screen, which appears in the chat.
func (s *stage) screenshot() error {
	if !s.pause(15) { // the window draws what was typed
		return s.ctx.Err()
	}
	u := s.tool("computer", map[string]any{"action": "screenshot"})
	m, err := s.d.Look()
	if err != nil {
		u.failed(err.Error())
		return err
	}
	small := x11.Scaled(m, pictureWidth)
	data, mime, err := x11.Encode(small, maxPicture)
	if err != nil {
		u.failed(err.Error())
		return err
	}
	u.result(false, words(fmt.Sprintf("screenshot %dx%d", small.Rect.Dx(), small.Rect.Dy())),
		content{Type: "image", Alt: "The desktop", MimeType: mime, Data: base64.StdEncoding.EncodeToString(data)})
	return nil
}

func (s *stage) click(x, y int) error {
	u := s.tool("computer", map[string]any{"action": "left_click", "coordinate": []int{x, y}})
	u, err := s.patiently(u, func() error { return s.glide(x, y) }, s.d.Click)
	if err == nil {
		u.done("Clicked.")
	}
	return err
}

func (s *stage) write(text string) error {
	u := s.tool("computer", map[string]any{"action": "type", "text": clean(text)})
	u, err := s.patiently(u, s.typing(text))
	if err == nil {
		u.done("Typed.")
	}
	return err
}

// beginDemo reports whether a demo may begin.
func (g *Gateway) beginDemo() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	free := !g.demoing
	g.demoing = true
	return free
}

func (g *Gateway) endDemo() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.demoing = false
}

// keepWindow keeps a window open, and closes the one before.
func (g *Gateway) keepWindow(w *window) {
	g.mu.Lock()
	before := g.window
	g.window = w
	g.mu.Unlock()
	if before != nil {
		before.close()
	}
}

// errHeld says that the user kept the mouse and keyboard.
var errHeld = errors.New("the user has the mouse and keyboard")

// patiently carries out a tool's actions and returns the use that lasts to their end. While the user has the mouse and
// keyboard, the tool fails with those words; when they are given back, it is used again and goes on where it stopped.
func (s *stage) patiently(u *use, actions ...func() error) (*use, error) {
	for i := 0; i < len(actions); {
		err := actions[i]()
		switch {
		case err == nil:
			i++
			continue
		case s.ctx.Err() != nil:
			return u, s.ctx.Err()
		case !errors.Is(err, x11.ErrInput):
			u.failed(err.Error())
			return u, err
		}
		u.failed("The user has the mouse and keyboard.")
		s.stream("\n\nYou have the mouse and keyboard. I continue when you give them back.", 1)
		if err := s.wait(); err != nil {
			return u, err
		}
		s.stream("\n\nThank you, I continue.", 1)
		u = u.again()
	}
	return u, nil
}

// wait returns when the mouse and keyboard can be used again.
func (s *stage) wait() error {
	for until := time.Now().Add(holdLimit); s.d.Probe() != nil; {
		if time.Now().After(until) {
			return errHeld
		}
		if !s.pause(10) {
			return s.ctx.Err()
		}
	}
	return nil
}
