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

(declare-function org-fold-subtree "org-fold" (flag))
(declare-function org-fold-show-subtree "org-fold" ())
(declare-function org-fold-show-context "org-fold" (&optional key))
(declare-function url-unhex-string "url-util" (str &optional allow-newlines))
(declare-function rlm-cancel "rlm" (run &optional cell-only))
(declare-function rlm-approve "rlm-steer" (run wait &optional all))
(declare-function rlm-cancel-child "rlm-steer" (run node))
(declare-function rlm-edit-code "rlm-steer" (run wait))
(declare-function rlm-exec "rlm-steer" (run &optional node))
(declare-function rlm-follow-up "rlm-steer" (run question &optional options))
(declare-function rlm-note "rlm-steer" (run text &optional node))
(declare-function rlm-pause "rlm-steer" (run))
(declare-function rlm-reject "rlm-steer" (run wait reason))
(declare-function rlm-variables "rlm-variables" (run &optional node))
(declare-function rlm-redraw "rlm" ())
(declare-function rlm-resume-run "rlm-runs" (run))
(declare-function rlm-fork-run "rlm-durable" (run iteration &rest changes))
(declare-function rlm-rerun "rlm-durable" (run))
(declare-function rlm-watch "rlm-durable" (run &optional budget stop))
(declare-function rlm-mark-good "rlm-reflect" (run reason))
(declare-function rlm-mark-bad "rlm-reflect" (run reason))
(declare-function rlm-ask-anew "rlm" ())
(declare-function rlm-set-limits "rlm-limits" (run limits))

;;;; Customization

(defcustom rlm-transcript-directory (locate-user-emacs-file "rlm/transcripts/")
  "Directory in which the transcript of each run is saved when it ends.
Nil means not to save any."
  :group 'rlm
  :type '(choice (const :tag "Save none" nil) directory)
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-after-run-functions nil
  "Functions called when a run has ended, in its buffer.
Each gets the run, an `rlm-run': see `rlm-run-status', `rlm-run-answer',
`rlm-run-evidence', `rlm-run-transcript' and the like."
  :group 'rlm
  :type 'hook
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-flush-seconds 0.1
  "Seconds for which events are collected before they are drawn."
  :group 'rlm
  :type 'number
  :package-version '(rlm . "0.1.0"))

;;;; Faces

(defface rlm-header
  '((t :inherit mode-line-emphasis))
  "Face of a run's status in the header line."
  :group 'rlm)

(defface rlm-header-good
  '((t :inherit success))
  "Face of the status of a run that has been answered."
  :group 'rlm)

(defface rlm-header-bad
  '((t :inherit error))
  "Face of the status of a run that has failed or was interrupted."
  :group 'rlm)

(defface rlm-header-warning
  '((t :inherit warning))
  "Face of the status of a run that a limit or the user has ended."
  :group 'rlm)

;;;; Collecting events

(defvar-local rlm-trajectory--queue nil
  "Events that wait to be drawn, oldest first.")

(defvar-local rlm-trajectory--incoming nil
  "Events that have come in since, newest first.")

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
               (rlm-trajectory--arm buffer rlm-flush-seconds)
               nil)))))

(defun rlm-trajectory--arm (buffer seconds)
  "Let BUFFER be drawn in SECONDS."
  (unless (memq buffer rlm-trajectory--dirty)
    (push buffer rlm-trajectory--dirty))
  (unless (memq rlm-trajectory--timer timer-list)
    (timer-set-function rlm-trajectory--timer #'rlm-trajectory--tick)
    (timer-set-time rlm-trajectory--timer (time-add nil seconds))
    (timer-activate rlm-trajectory--timer)))

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
    (not (rlm-trajectory--next))))

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
    (force-mode-line-update)))

(defun rlm-trajectory--next ()
  "Return the next event to be drawn, or nil."
  (unless rlm-trajectory--queue
    (setq rlm-trajectory--queue (nreverse rlm-trajectory--incoming)
          rlm-trajectory--incoming nil))
  (car rlm-trajectory--queue))

(defun rlm-trajectory--draw-safely (event)
  "Draw EVENT; an error is told and does not stop the rest."
  (condition-case problem
      (let ((live (rlm-run-live-p rlm-run-current)))
        (rlm-draw event)
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
  (rlm-trajectory--start-clock)
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

(defvar-local rlm-trajectory--follow t
  "Whether windows whose point is at the end stay there.")

(defvar-local rlm-trajectory--arrived nil
  "Non-nil just after the run has ended, when followers go to the answer.")

(defun rlm-trajectory--followers ()
  "Return the windows that follow the end; t stands for the buffer itself."
  (when rlm-trajectory--follow
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
  (rlm-trajectory--colour-code t)
  (funcall rlm-trajectory-end-function)
  (if (<= rlm-trajectory--seq rlm-trajectory--replayed)
      (setf (rlm-run-transcript run) (rlm-trajectory--saved-transcript run))
    (rlm-trajectory-save)
    (run-hook-wrapped 'rlm-after-run-functions #'rlm-trajectory--call-hook run)))

(defun rlm-trajectory--colour-code (on)
  "Fontify code as its language has it if ON; too slow while text streams in."
  (setq-local org-src-fontify-natively on)
  (when on
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

;;;; Transcripts

(defconst rlm-trajectory--tail "\n\f\n# The end of the transcript.\n"
  "Text after a transcript.
Behind the form feed Emacs would look for local variables, so that nothing
a model has written can be taken for some.")

(defun rlm-trajectory--transcript-name (run)
  "Return the name, without directory, of the transcript of RUN."
  (format "%s-%s.org"
          (replace-regexp-in-string "[^[:alnum:]-]" "" (or (rlm-run-id run) "unasked"))
          (let ((slug (string-trim (replace-regexp-in-string
                                    "[^[:alnum:]]+" "-" (downcase (rlm-run-question run)))
                                   "-+" "-+")))
            (string-trim-right (substring slug 0 (min 50 (length slug))) "-+"))))

(defun rlm-trajectory--saved-transcript (run)
  "Return the name of the transcript of RUN if there is one, or nil."
  (when rlm-transcript-directory
    (let ((file (expand-file-name (rlm-trajectory--transcript-name run)
                                  rlm-transcript-directory)))
      (and (file-exists-p file) file))))

(defun rlm-trajectory-save ()
  "Save the transcript of this buffer's run in `rlm-transcript-directory'.
If that can't be done, say so; the buffer stays as it is in any case."
  (interactive nil rlm-trajectory-mode)
  (let ((run rlm-run-current))
    (when (and (called-interactively-p 'interactive) (not rlm-transcript-directory))
      (user-error "`rlm-transcript-directory' is nil"))
    (when (and rlm-transcript-directory (rlm-run-id run))
      (let ((file (expand-file-name (rlm-trajectory--transcript-name run)
                                    rlm-transcript-directory)))
        (condition-case problem
            (progn
              (make-directory rlm-transcript-directory t)
              (rlm-trajectory--write-file file)
              (setf (rlm-run-transcript run) file)
              (message "rlm: transcript saved in %s" (abbreviate-file-name file)))
          (file-error
           (message "rlm: the transcript can't be saved (%s); buffer %s has it, %s"
                    (error-message-string problem) (buffer-name)
                    "and s there saves it again")))))))

(defun rlm-trajectory--write-file (file)
  "Write the current buffer's text and the tail of transcripts to FILE."
  (let ((text (save-restriction (widen) (buffer-substring-no-properties (point-min) (point-max))))
        (coding-system-for-write 'utf-8-unix))
    (with-temp-buffer
      (insert text rlm-trajectory--tail)
      (write-region nil nil file nil 'silent))))

;;;; Header line

(defun rlm-trajectory-header ()
  "Return the header line of the current buffer's run."
  (let* ((run rlm-run-current)
         (elapsed (rlm-run-elapsed run)))
    (concat " " (rlm-trajectory--header-status run)
            (mapconcat
             (lambda (text) (if (or (null text) (string-empty-p text)) "" (concat " | " text)))
             (list (or (rlm-draw-attention run)
                       (and (rlm-run-live-p run) (rlm-run-doing run)))
                   (rlm-trajectory--header-figures run)
                   (and elapsed (rlm-figure-clock elapsed))
                   (and (rlm-run-similar run) "a similar question's answer, A asks anew")
                   (if (rlm-run-live-p run) "k cancel" "? help"))
             ""))))

(defun rlm-trajectory--header-status (run)
  "Return the status of RUN with a face."
  (let ((status (rlm-run-status run)))
    (propertize status 'face (pcase status
                               ((or "running" "asking") 'rlm-header)
                               ("done" 'rlm-header-good)
                               ((or "limit" "cancelled") 'rlm-header-warning)
                               (_ 'rlm-header-bad)))))

(defun rlm-trajectory--header-figures (run)
  "Return what RUN has used so far."
  (when (rlm-run-started run)
    (format "iteration %d | sub-calls %d/%d%s | %s tokens | %s"
            (rlm-run-iterations run) (rlm-run-subcalls-done run) (rlm-run-subcalls run)
            (if (zerop (rlm-run-cached run)) "" (format " | %d cached" (rlm-run-cached run)))
            (rlm-figure-number (rlm-run-tokens run))
            (let ((cost (rlm-run-cost run)))
              (if (null cost) "cost unknown"
                (if (zerop cost) "no cost" (rlm-figure-cost cost)))))))

(defvar rlm-trajectory--clock-timer nil
  "Timer that lets the header lines of live runs count, or nil.")

(defun rlm-trajectory--start-clock ()
  "Let live header lines count."
  (unless rlm-trajectory--clock-timer
    (setq rlm-trajectory--clock-timer (run-at-time 1 1 #'rlm-trajectory--tick-clocks))))

(defun rlm-trajectory--tick-clocks ()
  "Let the header line of each live run count; stop if there is none."
  (let (live)
    (dolist (buffer (buffer-list))
      (when-let ((run (buffer-local-value 'rlm-run-current buffer)))
        (when (rlm-run-live-p run)
          (setq live t)
          (when (get-buffer-window buffer t)
            (with-current-buffer buffer
              (force-mode-line-update))))))
    (unless live
      (cancel-timer rlm-trajectory--clock-timer)
      (setq rlm-trajectory--clock-timer nil))))

(defun rlm-trajectory-say (buffer text)
  "Let the header line of BUFFER say TEXT until something else happens."
  (with-current-buffer buffer
    (setf (rlm-run-doing rlm-run-current) text)
    (force-mode-line-update)))

;;;; Commands

(defun rlm-trajectory--unfold ()
  "Show the entry at point and where it stands."
  (if (fboundp 'org-fold-show-subtree)
      (progn (org-fold-show-context 'agenda) (org-fold-show-subtree))
    (with-no-warnings
      (org-show-context 'agenda)
      (org-show-subtree))))

(defun rlm-trajectory-next (count)
  "Go to the next visible heading, or COUNT headings on."
  (interactive "p" rlm-trajectory-mode)
  (org-next-visible-heading count))

(defun rlm-trajectory-previous (count)
  "Go to the previous visible heading, or COUNT headings back."
  (interactive "p" rlm-trajectory-mode)
  (org-next-visible-heading (- count)))

(defun rlm-trajectory-show-answer ()
  "Go to the answer, or to why there is none."
  (interactive nil rlm-trajectory-mode)
  (goto-char (or (rlm-trajectory--last-heading "Answer\\(?: so far\\)?")
                 (rlm-trajectory--last-heading "[CFS].*\\|Interrupted")
                 (user-error "There is no answer yet")))
  (rlm-trajectory--unfold)
  (recenter 0))

(defun rlm-trajectory--last-heading (regexp)
  "Return where the last heading of the second level is that matches REGEXP."
  (save-excursion
    (goto-char (point-max))
    (re-search-backward (format "^\\*\\* \\(?:%s\\)$" regexp) nil t)))

(defun rlm-trajectory-toggle-follow ()
  "Follow the end of the buffer as it grows, or stop to do so."
  (interactive nil rlm-trajectory-mode)
  (setq rlm-trajectory--follow (not rlm-trajectory--follow))
  (when rlm-trajectory--follow
    (goto-char (point-max)))
  (message (if rlm-trajectory--follow
               "Following the run while point is at the end"
             "Not following the run")))

(defun rlm-trajectory-follow-link ()
  "Visit the evidence or link at point, or else fold or unfold the heading."
  (interactive nil rlm-trajectory-mode)
  (let ((place (get-text-property (line-beginning-position) 'rlm-evidence)))
    (cond ((and place (string-match "\\`rlm-buffer:\\(https?://.*\\)" (car place)))
           (browse-url (match-string 1 (car place))))
          (place (apply #'rlm-trajectory--visit place))
          ((rlm-trajectory--visit-link))
          ((org-at-heading-p) (org-cycle))
          (t (user-error "There is no evidence or link here")))))

(defun rlm-trajectory--visit (place line)
  "Visit LINE of PLACE, a file's name or the URI of a buffer, in another window."
  (pop-to-buffer
   (if (string-prefix-p "rlm-buffer:" place)
       (rlm-trajectory--named-buffer (string-remove-prefix "rlm-buffer:" place))
     (unless (file-exists-p place)
       (user-error "%s is gone" (abbreviate-file-name place)))
     (find-file-noselect place)))
  (push-mark nil t)
  (let ((start (rlm-trajectory--line-start line)))
    (unless (<= (point-min) start (point-max))
      (widen))
    (goto-char start))
  (recenter))

(defun rlm-trajectory--named-buffer (name)
  "Return the buffer NAME, or visit the remote file NAME."
  (cond ((get-buffer name))
        ((string-prefix-p "(" name)     ; a node of Info
         (save-window-excursion (info name) (current-buffer)))
        ((file-remote-p name) (find-file-noselect name))
        (t (user-error "The buffer %s is gone" name))))

(defun rlm-trajectory--line-start (line)
  "Return where LINE of the whole buffer begins."
  (save-excursion
    (save-restriction
      (widen)
      (goto-char (point-min))
      (forward-line (1- line))
      (point))))

(defun rlm-trajectory--visit-link ()
  "Visit the link at point if it leads to a file or the web; return non-nil then.
Links that run something are the model's words and are not followed."
  (let ((link (org-element-context)))
    (when (eq (org-element-type link) 'link)
      (pcase (org-element-property :type link)
        ("file" (rlm-trajectory--visit
                 (expand-file-name (org-element-property :path link))
                 (string-to-number (or (org-element-property :search-option link) "1")))
         t)
        ((or "http" "https")
         (browse-url (org-element-property :raw-link link))
         t)
        (type (user-error "Links of type %s are not followed here" type))))))

(defun rlm-trajectory-help ()
  "Describe the keys of this buffer."
  (interactive nil rlm-trajectory-mode)
  (describe-keymap 'rlm-trajectory-mode-map))

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
    (define-key map "f" #'rlm-trajectory-toggle-follow)
    (define-key map "g" #'rlm-redraw)
    (define-key map "k" #'rlm-cancel)
    (define-key map "K" #'rlm-cancel-child)
    (define-key map "L" #'rlm-set-limits)
    (define-key map "c" #'rlm-resume-run)
    (define-key map "F" #'rlm-fork-run)
    (define-key map "R" #'rlm-rerun)
    (define-key map "w" #'rlm-watch)
    (define-key map "r" #'rlm-follow-up)
    (define-key map "i" #'rlm-note)
    (define-key map "P" #'rlm-pause)
    (define-key map "v" #'rlm-variables)
    (define-key map "x" #'rlm-exec)
    (define-key map "e" #'rlm-edit-code)
    (define-key map (kbd "C-c C-c") #'rlm-approve)
    (define-key map (kbd "C-c C-k") #'rlm-reject)
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

(define-derived-mode rlm-trajectory-mode org-mode "rlm"
  "Major mode of the buffer that shows a run as it goes on.

\\{rlm-trajectory-mode-map}"
  :interactive nil
  (setq buffer-read-only t)
  (setq truncate-lines nil word-wrap t)
  (setq bidi-paragraph-direction 'left-to-right)
  (setq-local bidi-inhibit-bpa t)
  (setq-local scroll-conservatively 101)
  ;; Each of these was measured to cost redisplay time while text streams in.
  (setq-local org-src-fontify-natively nil)
  (when (boundp 'long-line-threshold)
    (setq-local long-line-threshold nil))
  (setq-local header-line-format '(:eval (rlm-trajectory-header)))
  (setq-local mode-line-process '(:eval (rlm-draw-mode-line)))
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
      (generate-new-buffer (format "*rlm: %s*" (rlm-org-line question 50)))
    ;; The modules are for agendas and capture, and take most of a second to load.
    (let ((org-modules-loaded t)
          (org-inhibit-startup t))
      (rlm-trajectory-mode))
    (rlm-trajectory--begin question)
    (rlm-trajectory--start-clock)
    (current-buffer)))

(defconst rlm-trajectory--columns
  (concat "%60ITEM(Node) %RLM_STATUS(Status) %20RLM_MODEL(Model) %10RLM_TOKENS(Tokens) "
          "%10RLM_COST(US$) %8RLM_SECONDS(Seconds)")
  "The columns of Org's column view; each row has the sums of all below it.")

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
            "#+startup: overview\n"
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
