// Line icons on a 20 × 20 grid. They are decoration: the buttons around them have names.
import type { ReactNode } from "react";

/** Draws an icon: paths on the grid, in strokes of the text's colour. */
export const icon = (d: ReactNode) =>
  function Icon({ className = "size-5" }: { className?: string }) {
    return (
      <svg
        aria-hidden="true"
        viewBox="0 0 20 20"
        className={className}
        fill="none"
        stroke="currentColor"
        strokeWidth="1.6"
        strokeLinecap="round"
        strokeLinejoin="round"
      >
        {d}
      </svg>
    );
  };

export const DesktopIcon = icon(
  <>
    <rect x="2.5" y="3.5" width="15" height="10" rx="1.5" />
    <path d="M7 17h6M10 13.5V17" />
  </>,
);
export const ChatIcon = icon(<path d="M3 4.5h14v9H9l-4 3.5v-3.5H3z" />);
export const SplitIcon = icon(
  <>
    <rect x="2.5" y="3.5" width="15" height="13" rx="1.5" />
    <path d="M12 3.5v13" />
  </>,
);
export const KeyIcon = icon(
  <>
    <circle cx="6.5" cy="13.5" r="3" />
    <path d="m8.7 11.3 7.3-7.3M13 7l2.5 2.5" />
  </>,
);
export const UserIcon = icon(
  <>
    <circle cx="10" cy="7" r="3.2" />
    <path d="M3.5 17c.8-3.2 3.3-5 6.5-5s5.7 1.8 6.5 5" />
  </>,
);
export const PlusIcon = icon(<path d="M10 4v12M4 10h12" />);
export const MoreIcon = icon(
  <>
    <circle cx="4" cy="10" r=".8" fill="currentColor" />
    <circle cx="10" cy="10" r=".8" fill="currentColor" />
    <circle cx="16" cy="10" r=".8" fill="currentColor" />
  </>,
);
export const CloseIcon = icon(<path d="m5 5 10 10M15 5 5 15" />);
export const CheckIcon = icon(<path d="m4 10.5 4 4 8-9" />);
export const ChevronIcon = icon(<path d="m6 8 4 4 4-4" />);
export const BackIcon = icon(<path d="M12 4 6 10l6 6" />);
export const CopyIcon = icon(
  <>
    <rect x="7" y="7" width="9.5" height="9.5" rx="1.5" />
    <path d="M13 7V4.5A1.5 1.5 0 0 0 11.5 3h-7A1.5 1.5 0 0 0 3 4.5v7A1.5 1.5 0 0 0 4.5 13H7" />
  </>,
);
export const StopIcon = icon(<rect x="5" y="5" width="10" height="10" rx="1.5" />);
export const PlayIcon = icon(<path d="M6.5 4v12l9-6z" />);
export const TrashIcon = icon(<path d="M4 6h12M8 6V4h4v2M5.5 6l.7 10.5h7.6L14.5 6M8.5 9v4.5M11.5 9v4.5" />);
export const EditIcon = icon(<path d="m4 16 .8-3.5L13.5 3.8l2.7 2.7-8.7 8.7zM11.5 5.8l2.7 2.7" />);
export const AttachIcon = icon(
  <path d="m15.5 9-6 6a3.5 3.5 0 0 1-5-5l6.5-6.5a2.4 2.4 0 0 1 3.4 3.4L8 13.3a1.2 1.2 0 0 1-1.7-1.7L12 6" />,
);
export const FileIcon = icon(<path d="M5 2.5h6.5L15 6v11.5H5zM11.5 2.5V6H15" />);
export const CameraIcon = icon(
  <>
    <path d="M2.5 6h3.5l1.5-2h5L14 6h3.5v10h-15z" />
    <circle cx="10" cy="10.8" r="2.8" />
  </>,
);
export const SendIcon = icon(<path d="M3.5 10 16.5 4l-4 12.5-3-5.5zM9.5 11l7-7" />);
export const FullScreenIcon = icon(<path d="M3.5 7.5v-4h4M16.5 7.5v-4h-4M3.5 12.5v4h4M16.5 12.5v4h-4" />);
export const KeyboardIcon = icon(
  <>
    <rect x="2" y="5" width="16" height="10" rx="1.5" />
    <path d="M5 8h.01M8 8h.01M11 8h.01M14 8h.01M6 12h8" />
  </>,
);
export const ClipboardIcon = icon(
  <>
    <rect x="4" y="4" width="12" height="13.5" rx="1.5" />
    <path d="M7.5 4V2.5h5V4z" />
  </>,
);
export const EyeIcon = icon(
  <>
    <path d="M2 10s3-5.5 8-5.5S18 10 18 10s-3 5.5-8 5.5S2 10 2 10z" />
    <circle cx="10" cy="10" r="2.3" />
  </>,
);
export const RefreshIcon = icon(
  <path d="M16 8a6.3 6.3 0 0 0-11.5-1.5M4 3v4h4M4 12a6.3 6.3 0 0 0 11.5 1.5M16 17v-4h-4" />,
);
export const WarnIcon = icon(<path d="M10 3 2 17h16zM10 8v4M10 14.5v.01" />);
export const DeniedIcon = icon(
  <>
    <circle cx="10" cy="10" r="7" />
    <path d="m5 5 10 10" />
  </>,
);
export const InfoIcon = icon(
  <>
    <circle cx="10" cy="10" r="7.5" />
    <path d="M10 9v5M10 6.3v.01" />
  </>,
);
export const SearchIcon = icon(
  <>
    <circle cx="9" cy="9" r="5" />
    <path d="m13 13 4 4" />
  </>,
);
export const SaveIcon = icon(<path d="M10 3v9M6 8.5l4 4 4-4M4 16h12" />);
export const ToolIcon = icon(
  <path d="M12.5 3.5a4 4 0 0 0-4.8 5.3L3 13.5 6.5 17l4.7-4.7a4 4 0 0 0 5.3-4.8L14 10l-2.5-.5L11 7z" />,
);
export const HistoryIcon = icon(
  <>
    <circle cx="10" cy="10" r="7.5" />
    <path d="M10 5.5V10l3 2" />
  </>,
);
export const ClockIcon = icon(
  <>
    <circle cx="10" cy="11" r="6.5" />
    <path d="M10 7.5V11h3M8 2.5h4" />
  </>,
);
export const UsageIcon = icon(<path d="M3 17h14M5.5 14v-4M10 14V4M14.5 14V8" />);
export const PulseIcon = icon(<path d="M2 10h4l2-5 4 10 2-5h4" />);
export const CardIcon = icon(
  <>
    <rect x="2.5" y="4.5" width="15" height="11" rx="1.5" />
    <path d="M2.5 8h15M5.5 12.5h3" />
  </>,
);
export const OutIcon = icon(<path d="M8 4.5H4.5v11h11V12M11.5 3.5h5v5M16 4l-6.5 6.5" />);
