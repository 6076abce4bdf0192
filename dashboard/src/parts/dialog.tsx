// Dialogs: a frame, and the question before something is destroyed. Escape closes both.
import { signal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { Button } from './button';

interface FrameProps {
  title: string;
  onClose: () => void;
  onSubmit?: () => void;
  children: ComponentChildren;
  footer: ComponentChildren;
  wide?: boolean;
}

export function Dialog({ title, onClose, onSubmit, children, footer, wide }: FrameProps) {
  const frame = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = frame.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={frame}
      class={wide ? 'wide' : ''}
      aria-label={title}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        if (event.target === frame.current) onClose();
      }}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault();
          onSubmit?.();
        }}
      >
        <header>{title}</header>
        <div class="content">{children}</div>
        <footer>{footer}</footer>
      </form>
    </dialog>
  );
}

interface Question {
  title: string;
  body: ComponentChildren;
  action: string;
  answer: (yes: boolean) => void;
}

const question = signal<Question | null>(null);

/** Asks before something is destroyed. */
export function sure(title: string, body: ComponentChildren, action: string): Promise<boolean> {
  return new Promise((resolve) => {
    question.value = {
      title,
      body,
      action,
      answer: (yes) => {
        question.value = null;
        resolve(yes);
      },
    };
  });
}

export function Questions() {
  const asked = question.value;
  if (!asked) return null;
  return (
    <Dialog
      title={asked.title}
      onClose={() => asked.answer(false)}
      onSubmit={() => asked.answer(true)}
      footer={
        <>
          <Button onClick={() => asked.answer(false)}>Cancel</Button>
          <button type="submit" class="btn danger solid">
            {asked.action}
          </button>
        </>
      }
    >
      <div class="soft">{asked.body}</div>
    </Dialog>
  );
}
