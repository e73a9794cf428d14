// Icons that only the desktop needs.
import { icon } from "@/ui/icons";

export const KeyCapIcon = icon(
  <>
    <rect x="3" y="3" width="14" height="14" rx="2.5" />
    <path d="M7 13h6M7.5 9.5 10 7l2.5 2.5" />
  </>,
);
export const HandIcon = icon(
  <path d="M7 10V4.8a1.2 1.2 0 0 1 2.4 0V9M9.4 9V3.7a1.2 1.2 0 0 1 2.4 0V9M11.8 9V4.8a1.2 1.2 0 0 1 2.4 0V12c0 3-1.8 5.2-4.6 5.2-2.2 0-3.4-1-4.6-3L3.6 11a1.2 1.2 0 0 1 2-1.3L7 11.5" />,
);
export const ScreenIcon = icon(
  <>
    <rect x="2.5" y="4" width="15" height="12" rx="1.5" />
    <path d="M6 7.5v-1h1.5M14 7.5v-1h-1.5M6 12.5v1h1.5M14 12.5v1h-1.5" />
  </>,
);
export const SmallScreenIcon = icon(<path d="M7.5 3.5v4h-4M12.5 3.5v4h4M7.5 16.5v-4h-4M12.5 16.5v-4h4" />);
export const ToolsIcon = icon(
  <>
    <path d="M3 6h6M13 6h4M3 14h3M10 14h7" />
    <circle cx="11" cy="6" r="2" />
    <circle cx="8" cy="14" r="2" />
  </>,
);
