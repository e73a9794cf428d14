// Package webgl says how Chromium and Chrome draw WebGL on a desktop without a graphics card, which they no longer do on
// their own. docs/decisions/2026-11-28-webgl-without-a-graphics-card.md says why this way.
package webgl

// Flag has the browser draw WebGL, and nothing else, with SwiftShader.
const Flag = "--use-angle=swiftshader-webgl"
