// Which lines of a machine's log say nothing: what a healthy X server and its VNC server write.

const quiet: RegExp[] = [
  /^\s*$/,
  // Xvnc's banner
  /^Xvnc TigerVNC \d[\w.]* - built /,
  /^Copyright \(C\) [\d-]+ TigerVNC Team /,
  /^See https?:\/\/www\.tigervnc\.org /,
  /^Underlying X server release \d+/,
  /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}$/,
  /^vncext: +(VNC extension running!|Listening for VNC connections on |created VNC server for screen )/,
  /^\[mi\] mieq: warning: overriding existing handler /,
  // viewers that come and go
  /^Connections: +(accepted|closed): [\d.:]+$/,
  /^SConnection: +Client (needs protocol version|requests security type) /,
  /^VNCSConnST: +(Server default|Client) pixel format /,
  /^VNCSConnST: +closing [\d.:]+: (Clean disconnection|read: Connection reset by peer)/,
  /^EncodeManager: +\S/,
  /^ComparingUpdateTracker: +\S/,
  /^(Desktop Size|VNCServerST|XserverDesktop): +(Got request for framebuffer resize|Reconfiguring|Resizing)/,
  // the keyboard's compiler, at each change of the layout
  /^The XKEYBOARD keymap compiler \(xkbcomp\) reports:$/,
  /^> (Warning|Internal error): +(Unsupported maximum keycode|Could not resolve keysym) /,
  /^> +X11 cannot support keycodes above 255/,
  /^Errors from xkbcomp are not fatal to the X server$/,
];

const longest = 400; // characters of a line that are looked at

/** Reports whether a healthy X server writes such a line. Lines of other programs are never left out. */
export function isQuiet(line: string): boolean {
  const said = /^desktop: ?/.exec(line);
  if (!said) return line.trim() === "";
  const text = line.slice(said[0].length, longest).trim();
  return quiet.some((known) => known.test(text));
}

/** Returns the lines that say something, and the number of the others. */
export function telling(log: string): { text: string; left: number } {
  const lines = log.replace(/\n$/, "").split("\n");
  const kept = lines.filter((l) => !isQuiet(l));
  return { text: kept.join("\n"), left: lines.length - kept.length };
}
