;;; rlm-evil.el --- Keys that go well with Evil  -*- lexical-binding: t; -*-

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

;;   (with-eval-after-load 'evil (require 'rlm-evil))
;;
;; The buffers of rlm are in motion state.  Their own keys work there,
;; except those by which Evil moves, searches and yanks: what these would do
;; stands behind a comma, as everything does, so that ", k" cancels a run
;; where k goes up.  Evil need not be there for this file to load.

;;; Code:

(require 'seq)
(require 'rlm)
(require 'rlm-collection-list)
(require 'rlm-costs)
(require 'rlm-models)
(require 'rlm-runs)
(require 'rlm-trajectory)

(declare-function evil-define-key* "evil-core" (state keymap key def &rest bindings))
(declare-function evil-set-initial-state "evil-core" (mode state))

(defconst rlm-evil--keys-of-evil
  (append (string-to-list "0123456789hjklwbeWBEftFT;,^$%gGHMLnN/?*#vVyzm'`[]{}()\"")
          (list ?\C-i))
  "Keys that Evil keeps in motion state.")

(defun rlm-evil-setup (mode map)
  "Let MODE, whose keymap is MAP, be in motion state with the keys of MAP."
  (evil-set-initial-state mode 'motion)
  (let ((all (copy-keymap map)))
    (set-keymap-parent all nil)
    (evil-define-key* 'motion map "," all))
  (map-keymap
   (lambda (event command)
     (when (and (integerp event)
                (not (memq event rlm-evil--keys-of-evil))
                (commandp command))
       (evil-define-key* 'motion map (vector event) command)))
   map)
  (evil-define-key* 'motion map (kbd "TAB") (lookup-key map (kbd "TAB"))
    "gr" (or (lookup-key map "g") #'revert-buffer)
    "q" #'quit-window))

(when (require 'evil nil t)
  (rlm-evil-setup 'rlm-trajectory-mode rlm-trajectory-mode-map)
  (evil-define-key* 'motion rlm-trajectory-mode-map
    "]]" #'rlm-trajectory-next
    "[[" #'rlm-trajectory-previous)
  (rlm-evil-setup 'rlm-collection-mode rlm-collection-mode-map)
  (rlm-evil-setup 'rlm-runs-mode rlm-runs-mode-map)
  (rlm-evil-setup 'rlm-models-mode rlm-models-mode-map)
  (rlm-evil-setup 'rlm-costs-mode rlm-costs-mode-map))

(provide 'rlm-evil)
;;; rlm-evil.el ends here
