// Loaded later: over all pages, that desktops stop because of the plan, or cannot be started.
import { Link } from "@tanstack/react-router";
import { Banner, buttonClass } from "@/ui";
import { useNotice } from "./useNotice";

export function PlanBanner() {
  const notice = useNotice();
  if (!notice) return null;
  return (
    <Banner
      tone={notice.tone}
      title={notice.title}
      className="m-2 mb-0"
      action={
        <Link to="/plan" className={buttonClass("plain", "small")}>
          {notice.action}
        </Link>
      }
    >
      {/* On a narrow screen, a desktop needs the room; the page Plan says the same. */}
      <span className="max-sm:sr-only">{notice.text}</span>
    </Banner>
  );
}
