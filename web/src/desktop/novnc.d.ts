// noVNC has no types. These are the parts in use. Names with an underscore are not part of its public interface: the
// version is pinned exactly, and only viewer.ts uses them.
declare module "@novnc/novnc" {
  interface Events {
    connect: object;
    disconnect: { clean: boolean };
    securityfailure: { status: number; reason?: string };
    clipboard: { text: string };
    desktopname: { name: string };
    bell: object;
  }

  export default class RFB {
    constructor(target: HTMLElement, channel: WebSocket, options?: { shared?: boolean });

    viewOnly: boolean;
    focusOnClick: boolean;
    clipViewport: boolean;
    dragViewport: boolean;
    scaleViewport: boolean;
    resizeSession: boolean;
    showDotCursor: boolean;
    background: string;

    addEventListener<T extends keyof Events>(type: T, listener: (event: CustomEvent<Events[T]>) => void): void;
    disconnect(): void;
    sendKey(keysym: number, code: string | null, down?: boolean): void;
    focus(options?: FocusOptions): void;
    blur(): void;
    clipboardPasteFrom(text: string): void;

    static readonly messages: {
      extendedClipboardProvide(sock: RFB["_sock"], formats: number[], data: string[]): void;
      clientEncodings(sock: RFB["_sock"], encodings: number[]): void;
      fbUpdateRequest(sock: RFB["_sock"], incremental: boolean, x: number, y: number, w: number, h: number): void;
    };

    protected _canvas: HTMLCanvasElement;
    protected _screen: HTMLElement;
    protected _fbWidth: number;
    protected _fbHeight: number;
    protected _viewOnly: boolean;
    protected _rfbConnectionState: string;
    protected _qualityLevel: number;
    protected _compressionLevel: number;
    protected _supportsSetDesktopSize: boolean;
    protected _pendingRemoteResize: boolean;
    protected _screenID: number;
    protected _screenFlags: number;
    protected _supportsFence: boolean;
    protected _clipboardServerCapabilitiesFormats: Record<number, boolean>;
    protected _clipboardServerCapabilitiesActions: Record<number, boolean>;
    protected _FBU: { x: number; y: number };
    protected _keyboard: {
      _keyDownList: Record<string, number | null>;
      _allKeysUp(): void;
      _handleKeyDown(e: KeyboardEvent): void;
      _handleKeyUp(e: KeyboardEvent): void;
      _sendKeyEvent(keysym: number | null, code: string, down: boolean): void;
    };
    protected _sock: {
      rQwait(what: string, bytes: number, back?: number): boolean;
      rQpeekBytes(bytes: number): Uint8Array;
      rQskipBytes(bytes: number): void;
      sQpush8(n: number): void;
      sQpush16(n: number): void;
      sQpush32(n: number): void;
      flush(): void;
    };
    protected _sendEncodings(): void;
    protected _framebufferUpdate(): boolean;
    protected _requestRemoteResize(): void;
    protected _screenSize(): { w: number; h: number };
    protected _handleExtendedDesktopSize(): boolean;
    protected _handleServerCutText(): boolean;
    protected _handleServerFenceMsg(): boolean;
  }
}
