/** The element that shows a desktop: the viewer's stage and, while disconnected, a copy of the last frame. */
export class Screen {
  readonly element = document.createElement("div");
  /** The viewer draws in it. */
  readonly stage = document.createElement("div");
  #still = document.createElement("canvas");

  constructor() {
    this.element.className = "cloudbot-desktop";
    Object.assign(this.element.style, { position: "relative", width: "100%", height: "100%", overflow: "hidden" });
    Object.assign(this.stage.style, { position: "absolute", inset: "0" });
    Object.assign(this.#still.style, {
      position: "absolute",
      inset: "0",
      margin: "auto",
      filter: "brightness(0.55)",
      pointerEvents: "none",
    });
    this.#still.setAttribute("aria-hidden", "true");
    this.#still.hidden = true;
    this.element.append(this.stage, this.#still);
  }

  /** keep shows a copy of the frame, in its natural size or fitted. A copy keeps no closed viewer in memory. */
  keep(frame: HTMLCanvasElement, natural: boolean) {
    const still = this.#still;
    still.width = frame.width;
    still.height = frame.height;
    still.getContext("2d")?.drawImage(frame, 0, 0);
    Object.assign(
      still.style,
      natural ? { width: "", height: "", objectFit: "" } : { width: "100%", height: "100%", objectFit: "contain" },
    );
    still.hidden = false;
  }

  hideKept() {
    this.#still.hidden = true;
  }
}
