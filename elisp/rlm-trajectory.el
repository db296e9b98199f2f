;;; rlm-trajectory.el --- A run as an Org buffer  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; The events of a run become an Org buffer that can be read while it
;; grows: a heading for the run, one for each iteration, one for each
;; sub-call, and one for the answer with links to its evidence.
;;
;; `rlm-trajectory-create' makes the buffer, `rlm-trajectory-push' gives it
;; an event.  Events are collected and drawn by one timer, a bounded time
;; at once.  Each open node has markers of its own, so that sub-calls that
;; run at the same time can't get into each other's text.  The buffer is
;; valid Org at every moment: blocks are closed when they are opened, and
;; their text goes in before their last line.
;;
;; This file knows no process and no connection.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'org)
(require 'org-element)
(require 'rlm-org)
(require 'rlm-run)
(require 'rlm-node)
(require 'rlm-draw)
(require 'rlm-draw-steering)
(require 'rlm-browse)
(require 'rlm-header)
(require 'rlm-keys)
(require 'rlm-notify)
(require 'rlm-ol)
(require 'rlm-restore)
(require 'rlm-transcript)

(declare-function rlm-cancel "rlm" (run &optional cell-only))
(declare-function rlm-cancel-child "rlm-steer" (run node))
(declare-function rlm-exec "rlm-steer" (run &optional node))
(declare-function rlm-follow-up "rlm-steer" (run question &optional options))
(declare-function rlm-note "rlm-steer" (run text &optional node))
(declare-function rlm-pause "rlm-steer" (run))
(declare-function rlm-reject "rlm-steer" (run wait reason))
(declare-function rlm-live-ctrl-c-ctrl-c "rlm-live" ())
(declare-function rlm-live-edit "rlm-live" ())
(declare-function rlm-variables "rlm-variables" (run &optional node))
(declare-function rlm-redraw "rlm" ())
(declare-function rlm-resume-run "rlm-durable" (run &optional limits))
(declare-function rlm-fork-run "rlm-durable" (run iteration &rest changes))
(declare-function rlm-rerun "rlm-durable" (run))
(declare-function rlm-watch "rlm-durable" (run &optional budget stop))
(declare-function rlm-mark-good "rlm-reflect" (run reason))
(declare-function rlm-mark-bad "rlm-reflect" (run reason))
(declare-function rlm-ask-anew "rlm" ())
(declare-function rlm-set-limits "rlm-limits" (run limits))

;;;; Customization

(defcustom rlm-after-run-functions nil
  "Functions called when a run has ended, in its buffer.
Each gets the run, an `rlm-run': see `rlm-run-status', `rlm-run-answer',
`rlm-run-evidence', `rlm-run-transcript' and the like."
  :group 'rlm
  :type 'hook
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-flush-seconds 0.1
  "Seconds for which events are collected before they are drawn.
It is longer while so many come that nobody can read along, and for buffers
that are not on show."
  :group 'rlm
  :type 'number
  :package-version '(rlm . "0.1.0"))

;;;; Collecting events

(defvar-local rlm-trajectory--queue nil
  "Events that wait to be drawn, oldest first.")

(defvar-local rlm-trajectory--incoming nil
  "Events that have come in since, newest first.")

(defvar-local rlm-trajectory--burst 0
  "How many events had come in when they were drawn last.")

(defvar-local rlm-trajectory--seq -1
  "Number of the newest event that was taken.")

(defvar-local rlm-trajectory--replayed -1
  "Events up to this number are a replay of a run that has ended.
Nothing is saved, and no hook is run, when such a run ends.")

(defvar rlm-trajectory--timer (timer-create)
  "The one timer that draws.")

(defvar rlm-trajectory--dirty nil
  "Buffers with events that wait to be drawn.")

(defconst rlm-trajectory--slice 0.012
  "Seconds for which one buffer is drawn at once.")

(defun rlm-trajectory-push (buffer event)
  "Let BUFFER draw EVENT, a plist, soon.
Return the number of the event that should have come first, if any did not
come; EVENT is dropped then, as it is if it has come before."
  (with-current-buffer buffer
    (let ((seq (plist-get event :seq)))
      (cond ((<= seq rlm-trajectory--seq) nil)
            ((> seq (max (1+ rlm-trajectory--seq) rlm-trajectory--replayed))
             (1+ rlm-trajectory--seq))
            (t (setq rlm-trajectory--seq seq) ; a damaged log has gaps
               (push event rlm-trajectory--incoming)
               (unless (memq buffer rlm-trajectory--dirty)
                 (rlm-trajectory--arm buffer (rlm-trajectory--patience)))
               nil)))))

(defconst rlm-trajectory--flood 10
  "More events than this at once are more than anybody reads.")

(defun rlm-trajectory--patience ()
  "Return for how many seconds the events of the current buffer are collected.
Most of what drawing costs is to show it, whether it is much or little."
  (* rlm-flush-seconds
     (cond ((not (get-buffer-window nil 'visible)) 5)
           ((> rlm-trajectory--burst rlm-trajectory--flood) 2.5)
           (t 1))))

(defun rlm-trajectory--arm (buffer seconds)
  "Let BUFFER be drawn in SECONDS, or sooner."
  (cl-pushnew buffer rlm-trajectory--dirty)
  (let ((time (time-add nil seconds))
        (active (memq rlm-trajectory--timer timer-list)))
    (unless (and active (time-less-p (timer--time rlm-trajectory--timer) time))
      (when active
        (cancel-timer rlm-trajectory--timer))
      (timer-set-function rlm-trajectory--timer #'rlm-trajectory--tick)
      (timer-set-time rlm-trajectory--timer time)
      (timer-activate rlm-trajectory--timer))))

(defun rlm-trajectory--tick ()
  "Draw what waits, for a bounded time; the rest is drawn a little later."
  (let ((buffers (seq-filter #'buffer-live-p rlm-trajectory--dirty)))
    (setq rlm-trajectory--dirty nil)
    (dolist (buffer buffers)
      (unless (rlm-trajectory--flush buffer (+ (float-time) rlm-trajectory--slice))
        (push buffer rlm-trajectory--dirty)))
    (when rlm-trajectory--dirty
      (rlm-trajectory--arm (car rlm-trajectory--dirty) 0.01))))

(defun rlm-trajectory-flush (buffer)
  "Draw everything that waits for BUFFER, now."
  (rlm-trajectory--flush buffer nil)
  (setq rlm-trajectory--dirty (delq buffer rlm-trajectory--dirty)))

(defun rlm-trajectory--flush (buffer deadline)
  "Draw what waits for BUFFER until DEADLINE, nil: to the end.
Return non-nil if nothing is left."
  (with-current-buffer buffer
    (rlm-trajectory--drawing
     (lambda ()
       (while (and (rlm-trajectory--next)
                   (or (null deadline) (< (float-time) deadline)))
         (rlm-trajectory--draw-safely (pop rlm-trajectory--queue)))))
    (unless (rlm-trajectory--next)
      (rlm-restore-drawn)
      (run-hooks 'rlm-trajectory-drawn-hook)
      t)))

(defvar rlm-trajectory-drawn-hook nil
  "Hook run in a run's buffer when all that has come of it is drawn.")

(defun rlm-trajectory-amend (function)
  "Call FUNCTION, which draws in this buffer what is not of its run's log."
  (rlm-trajectory--drawing function))

(defun rlm-trajectory--drawing (function)
  "Call FUNCTION, which draws in the current buffer.
Then move those who follow the end, and nobody else."
  (let* ((inhibit-read-only t)
         (followers (rlm-trajectory--followers))
         (rlm-node-followers followers))
    (save-excursion
      (save-restriction
        (widen)
        (funcall function)))
    (set-buffer-modified-p nil)
    (rlm-trajectory--move followers)
    (rlm-header-update)))

(defun rlm-trajectory--next ()
  "Return the next event to be drawn, or nil."
  (unless rlm-trajectory--queue
    (when rlm-trajectory--incoming
      (setq rlm-trajectory--burst (length rlm-trajectory--incoming)))
    (setq rlm-trajectory--queue (rlm-trajectory--joined (nreverse rlm-trajectory--incoming))
          rlm-trajectory--incoming nil))
  (car rlm-trajectory--queue))

(defconst rlm-trajectory--most-joined 8000
  "Events with more characters than this are not joined.")

(defun rlm-trajectory--joined (events)
  "Return EVENTS with pieces of the same text that follow each other as one.
To insert often costs more than to insert much."
  (let (joined)
    (while events
      (let* ((event (pop events))
             (texts (and (rlm-trajectory--joinable-p event)
                         (list (plist-get event :text))))
             (size (if texts (length (car texts)) 0)))
        (while (and texts events
                    (rlm-trajectory--same-text-p event (car events))
                    (< size rlm-trajectory--most-joined))
          (setq event (pop events)
                size (+ size (length (plist-get event :text))))
          (push (plist-get event :text) texts))
        (push (if (cdr texts)
                  (plist-put (copy-sequence event) :text (apply #'concat (nreverse texts)))
                event)
              joined)))
    (nreverse joined)))

(defun rlm-trajectory--joinable-p (event)
  "Return non-nil if EVENT is one piece of a longer text."
  (member (plist-get event :kind) '("replyDelta" "output" "subcallDelta" "childDelta")))

(defun rlm-trajectory--same-text-p (one two)
  "Return non-nil if the event TWO continues the text of ONE."
  (seq-every-p (lambda (key) (equal (plist-get one key) (plist-get two key)))
               '(:kind :node :part :cell :stream)))

(defun rlm-trajectory--draw-safely (event)
  "Draw EVENT; an error is told and does not stop the rest."
  (condition-case problem
      (let ((live (rlm-run-live-p rlm-run-current))
            (waiting (rlm-run-waiting rlm-run-current)))
        (rlm-draw event)
        (when (and (rlm-run-waiting rlm-run-current) (not waiting)
                   (> (plist-get event :seq) rlm-trajectory--replayed))
          (rlm-notify-waiting rlm-run-current (current-buffer)))
        (when (= (plist-get event :seq) rlm-trajectory--replayed)
          (rlm-trajectory--end-of-replay))
        (cond ((and live (not (rlm-run-live-p rlm-run-current)))
               (rlm-trajectory--finish rlm-run-current))
              ((and (not live) (rlm-run-live-p rlm-run-current))
               (rlm-trajectory--go-on))
              ((and (not live) (equal (plist-get event :kind) "runEnded"))
               (rlm-trajectory--save-again event))))
    (error (message "rlm: event %s (%s) can't be drawn: %s" (plist-get event :seq)
                    (plist-get event :kind) (error-message-string problem)))))

(defvar rlm-trajectory-end-function #'ignore
  "Function called without arguments when a run has ended, or goes on after that.")

(defun rlm-trajectory--go-on ()
  "Prepare for further events of a run that had ended."
  (rlm-trajectory--colour-code nil)
  (rlm-header-start-clock)
  (rlm-header-count)
  (funcall rlm-trajectory-end-function))

(defun rlm-trajectory--save-again (event)
  "Save the transcript once more, unless EVENT, an end, is of a replay.
Since the last end, the user has run code."
  (when (> (plist-get event :seq) rlm-trajectory--replayed)
    (rlm-trajectory-save)))

(defun rlm-trajectory-replaying-p (buffer)
  "Return non-nil while BUFFER draws a run that has ended."
  (with-current-buffer buffer
    (< rlm-trajectory--seq rlm-trajectory--replayed)))

(defun rlm-trajectory--end-of-replay ()
  "Draw the end of a replayed run whose log has none."
  (when (rlm-run-live-p rlm-run-current)
    (rlm-draw-interruption
     "The log of this run has no end: its server died, or was killed.")))

;;;; Following the end

(defvar-local rlm-trajectory-follow t
  "Whether windows whose point is at the end stay there.")

(defvar-local rlm-trajectory--arrived nil
  "Non-nil just after the run has ended, when followers go to the answer.")

(defun rlm-trajectory--followers ()
  "Return the windows that follow the end; t stands for the buffer itself."
  (when rlm-trajectory-follow
    (append (and (= (point) (point-max)) '(t))
            (seq-filter (lambda (window) (= (window-point window) (point-max)))
                        (get-buffer-window-list nil nil t)))))

(defun rlm-trajectory--move (followers)
  "Move FOLLOWERS to the end, or to the answer if the run has just ended."
  (let* ((node (and rlm-trajectory--arrived rlm-node-table
                    (gethash "answer" rlm-node-table)))
         (target (if node (marker-position (rlm-node-start node)) (point-max))))
    (setq rlm-trajectory--arrived nil)
    (dolist (follower followers)
      (if (eq follower t)
          (goto-char target)
        (set-window-point follower target)
        (when node
          (set-window-start follower target t))))))

;;;; The end of a run

(defun rlm-trajectory--finish (run)
  "Save the transcript of RUN and tell those who want to know that it has ended."
  (setq rlm-trajectory--arrived t)
  (rlm-header-count)
  (rlm-trajectory--colour-code t)
  (funcall rlm-trajectory-end-function)
  (if (<= rlm-trajectory--seq rlm-trajectory--replayed)
      (setf (rlm-run-transcript run) (rlm-transcript-saved run))
    (rlm-trajectory-save)
    (run-hook-wrapped 'rlm-after-run-functions #'rlm-trajectory--call-hook run)
    (rlm-notify run (current-buffer))))

(defun rlm-trajectory--colour-code (on)
  "Fontify code as its language has it if ON, and let Org keep its cache.
Both cost too much while text streams in."
  (setq-local org-src-fontify-natively on)
  (setq-local org-element-use-cache (and on (default-value 'org-element-use-cache)))
  (when on
    (when org-element-use-cache
      (org-element-cache-reset))
    (font-lock-flush)))

(defun rlm-trajectory--call-hook (function run)
  "Call FUNCTION with RUN; an error is told, and the others are called."
  (save-excursion
    (condition-case problem
        (funcall function run)
      (error (message "rlm: error in `rlm-after-run-functions': %s"
                      (error-message-string problem)))))
  nil)

(defun rlm-trajectory-interrupt (buffer reason)
  "Draw in BUFFER that its run was interrupted, and REASON, a sentence."
  (rlm-trajectory-flush buffer)
  (with-current-buffer buffer
    (when (rlm-run-live-p rlm-run-current)
      (rlm-trajectory--drawing
       (lambda ()
         (rlm-draw-interruption reason)
         (rlm-trajectory--finish rlm-run-current))))))

(defun rlm-trajectory-fail (buffer text)
  "Draw in BUFFER that its question could not be asked, and why: TEXT."
  (with-current-buffer buffer
    (rlm-trajectory--drawing (lambda () (rlm-draw-failure text)))))

(defun rlm-trajectory-say (buffer text)
  "Let the header line of BUFFER say TEXT until something else happens."
  (with-current-buffer buffer
    (setf (rlm-run-doing rlm-run-current) text)
    (rlm-header-update)))

;;;; Commands of its own

(defun rlm-trajectory-toggle-follow ()
  "Follow the end of the buffer as it grows, or stop to do so."
  (interactive nil rlm-trajectory-mode)
  (setq rlm-trajectory-follow (not rlm-trajectory-follow))
  (when rlm-trajectory-follow
    (goto-char (point-max)))
  (message (if rlm-trajectory-follow
               "Following the run while point is at the end"
             "Not following the run")))

(defun rlm-trajectory-help ()
  "List the keys of this buffer."
  (interactive nil rlm-trajectory-mode)
  (rlm-keys-show (current-local-map) "Keys in the buffer of a run"))

;;;; The mode

(defvar rlm-trajectory-mode-map
  (let ((map (make-sparse-keymap)))
    (suppress-keymap map)
    (define-key map "n" #'rlm-trajectory-next)
    (define-key map "p" #'rlm-trajectory-previous)
    (define-key map (kbd "TAB") #'org-cycle)
    (define-key map (kbd "RET") #'rlm-trajectory-follow-link)
    (define-key map "a" #'rlm-trajectory-show-answer)
    (define-key map "A" #'rlm-ask-anew)
    (define-key map "F" #'rlm-trajectory-toggle-follow)
    (define-key map "t" #'rlm-browse-next-iteration)
    (define-key map "T" #'rlm-browse-previous-iteration)
    (define-key map "u" #'rlm-browse-next-subcall)
    (define-key map "U" #'rlm-browse-previous-subcall)
    (define-key map "o" #'rlm-browse-next-code)
    (define-key map "O" #'rlm-browse-previous-code)
    (define-key map "b" #'rlm-browse-next-error)
    (define-key map "B" #'rlm-browse-previous-error)
    (dolist (level '("1" "2" "3" "4"))
      (define-key map level #'rlm-browse-fold))
    (define-key map "g" #'rlm-redraw)
    (define-key map "k" #'rlm-cancel)
    (define-key map "K" #'rlm-cancel-child)
    (define-key map "L" #'rlm-set-limits)
    (define-key map "c" #'rlm-resume-run)
    (define-key map "f" #'rlm-fork-run)
    (define-key map "R" #'rlm-rerun)
    (define-key map "w" #'rlm-watch)
    (define-key map "r" #'rlm-follow-up)
    (define-key map "i" #'rlm-note)
    (define-key map "P" #'rlm-pause)
    (define-key map "v" #'rlm-variables)
    (define-key map "x" #'rlm-exec)
    (define-key map "e" #'rlm-live-edit)
    (define-key map (kbd "C-c '") #'rlm-live-edit)
    (define-key map (kbd "C-c C-k") #'rlm-reject)
    (define-key map ">" #'rlm-raise-limit)
    (define-key map "<" #'rlm-lower-limit)
    (define-key map "s" #'rlm-trajectory-save)
    (define-key map "+" #'rlm-mark-good)
    (define-key map "-" #'rlm-mark-bad)
    (define-key map "q" #'quit-window)
    (define-key map "?" #'rlm-trajectory-help)
    (define-key map (kbd "SPC") #'scroll-up-command)
    (define-key map (kbd "S-SPC") #'scroll-down-command)
    (define-key map (kbd "DEL") #'scroll-down-command)
    map)
  "Keys of `rlm-trajectory-mode'.")

(defconst rlm-trajectory--columns
  (concat "%60ITEM(Node) %RLM_STATUS(Status) %20RLM_MODEL(Model) %10RLM_TOKENS(Tokens) "
          "%10RLM_COST(US$) %8RLM_SECONDS(Seconds)")
  "The columns of Org's column view; each row has the sums of all below it.")

(define-derived-mode rlm-trajectory-mode org-mode "rlm"
  "Major mode of the buffer that shows a run as it goes on.

\\{rlm-trajectory-mode-map}"
  :interactive nil
  ;; Org sets its own in its hook.
  :after-hook (setq-local imenu-create-index-function #'rlm-browse-imenu)
  (setq buffer-read-only t)
  (setq truncate-lines nil word-wrap t)
  (setq bidi-paragraph-direction 'left-to-right)
  (setq-local bidi-inhibit-bpa t)
  (setq-local scroll-conservatively 101)
  ;; Each of these was measured to cost redisplay time while text streams in.
  (setq-local org-src-fontify-natively nil)
  (setq-local font-lock-fontify-region-function #'rlm-node-fontify)
  (when (boundp 'long-line-threshold)
    (setq-local long-line-threshold nil))
  (setq-local header-line-format '(:eval (rlm-header-line)))
  (setq-local mode-line-process '(:eval (rlm-draw-mode-line)))
  (setq-local next-error-function #'rlm-browse-next-evidence)
  (setq-local org-columns-default-format rlm-trajectory--columns)
  (rlm-restore-setup)
  (add-hook 'org-ctrl-c-ctrl-c-hook #'rlm-live-ctrl-c-ctrl-c nil t)
  (buffer-disable-undo)
  (add-hook 'kill-buffer-query-functions #'rlm-trajectory--kill-p nil t))

(defvar rlm-trajectory-cancel-function #'ignore
  "Function called with a live run whose buffer is about to be killed.")

(defun rlm-trajectory--kill-p ()
  "Return non-nil if this buffer may be killed; a live run is cancelled then."
  (let ((run rlm-run-current))
    (cond ((not (and run (rlm-run-id run) (rlm-run-live-p run))) t)
          ((or noninteractive (yes-or-no-p "This run is going on; cancel it? "))
           (funcall rlm-trajectory-cancel-function run)
           t))))

(defvar org-modules-loaded)

(defun rlm-trajectory-create (question)
  "Return a new buffer for a run that answers QUESTION."
  (with-current-buffer
      (generate-new-buffer (rlm-draw-buffer-name question))
    ;; The modules are for agendas and capture, and take most of a second to load.
    (let ((org-modules-loaded t)
          (org-inhibit-startup t))
      (rlm-trajectory-mode))
    (rlm-trajectory--begin question)
    (rlm-header-start-clock)
    (rlm-header-count)
    (current-buffer)))

(defun rlm-trajectory--begin (question)
  "Make the current buffer one for a run that answers QUESTION.
It has no event yet."
  (setq rlm-run-current (rlm-run--make :question question)
        rlm-node-table (make-hash-table :test #'equal)
        rlm-draw--iterations nil
        rlm-trajectory--queue nil rlm-trajectory--incoming nil
        rlm-trajectory--seq -1 rlm-trajectory--replayed -1)
  (rlm-trajectory--colour-code nil)
  (let ((inhibit-read-only t))
    (widen)
    (delete-all-overlays)
    (erase-buffer)
    (insert "# -*- mode: org; coding: utf-8 -*-\n"
            "#+title: " (rlm-org-line question 200) "\n"
            "#+filetags: :rlm:\n"
            ;; What is folded needs no drawer hidden, and Org 9.7 takes long to do it.
            "#+startup: overview nohidedrawers\n"
            ;; Names such as snake_case have no subscripts.
            "#+options: ^:nil\n"
            "#+columns: " rlm-trajectory--columns "\n\n")
    ;; What is for the transcript alone need not be looked at here.
    (overlay-put (make-overlay (point-min) (point)) 'invisible t)
    (rlm-draw-question)
    (goto-char (point-max))
    (set-buffer-modified-p nil)))

(defun rlm-trajectory-reset (buffer)
  "Make BUFFER empty, as before the first event of its run."
  (with-current-buffer buffer
    (let ((old rlm-run-current))
      (rlm-trajectory--begin (rlm-run-question old))
      (setf (rlm-run-id rlm-run-current) (rlm-run-id old)
            (rlm-run-log rlm-run-current) (rlm-run-log old)
            (rlm-run-transcript rlm-run-current) (rlm-run-transcript old)))
    (dolist (window (get-buffer-window-list nil nil t))
      (set-window-point window (point-max)))))

(defun rlm-trajectory-expect (buffer last-seq)
  "Let BUFFER know that its run has ended and that LAST-SEQ is its last event.
A run without an end in its log was interrupted."
  (with-current-buffer buffer
    (setq rlm-trajectory--replayed last-seq)))

(provide 'rlm-trajectory)
;;; rlm-trajectory.el ends here
